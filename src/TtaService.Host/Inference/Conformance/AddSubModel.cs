using System.Globalization;
using System.Text;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference.Conformance;

/// <summary>OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, in rows of 16.</summary>
internal sealed class AddSubModel : IInferenceModel
{
    private const int Row = 16;

    private readonly Datatype _datatype;

    public AddSubModel(string name, Datatype datatype)
    {
        _datatype = datatype;
        Description = new InferenceModelDescription
        {
            Name = name,
            Platform = "tta_conformance",
            MaxBatch = ConformanceModels.MaxBatch,
            Inputs = [Described("INPUT0"), Described("INPUT1")],
            Outputs = [Described("OUTPUT0"), Described("OUTPUT1")],
        };
    }

    public InferenceModelDescription Description { get; }

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        await Task.CompletedTask.ConfigureAwait(false);
        var inputs = ConformanceModels.Fitting(Description, request);
        if (!inputs[0].Shape.SequenceEqual(inputs[1].Shape))
        {
            throw new FailureException(InferenceErrors.WrongInputs(Description.Name, "INPUT0 and INPUT1 differ in shape"));
        }

        var (left, right) = (Numbers(inputs[0]), Numbers(inputs[1]));
        yield return ConformanceModels.Answer(
            Description,
            request,
            Tensor("OUTPUT0", inputs[0].Shape, [.. left.Zip(right, (a, b) => unchecked(a + b))]),
            Tensor("OUTPUT1", inputs[0].Shape, [.. left.Zip(right, (a, b) => unchecked(a - b))]));
    }

    private TensorDescription Described(string name) => new(name, _datatype, [-1, Row]);

    private int[] Numbers(Tensor tensor) => _datatype switch
    {
        Datatype.Int32 => tensor.As<int>().ToArray(),
        Datatype.Int8 => [.. tensor.Data.ToArray().Select(value => (int)(sbyte)value)],
        _ => [.. tensor.Texts().Select(text => Number(text.Span))],
    };

    private Tensor Tensor(string name, IReadOnlyList<long> shape, int[] values) => _datatype switch
    {
        Datatype.Int32 => Inference.Tensor.Of<int>(name, _datatype, shape, values),
        Datatype.Int8 => Inference.Tensor.Of<sbyte>(name, _datatype, shape, [.. values.Select(value => unchecked((sbyte)value))]),
        _ => Inference.Tensor.Of(name, shape, [.. values.Select(value => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(value.ToString(CultureInfo.InvariantCulture)))]),
    };

    private int Number(ReadOnlySpan<byte> text) => int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
        ? number
        : throw new FailureException(InferenceErrors.WrongInputs(Description.Name, "an element is no integer in digits"));
}
