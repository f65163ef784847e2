using System.Runtime.CompilerServices;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference.Conformance;

/// <summary>A response for each element of IN, DELAY milliseconds after the one before: OUT the element, IDX its index.</summary>
internal sealed class RepeatModel : IInferenceModel
{
    private const int MaxRepeats = 1000;
    private const uint MaxDelay = 60_000;

    public InferenceModelDescription Description { get; } = new()
    {
        Name = "repeat_int32",
        Platform = "tta_conformance",
        IsDecoupled = true,
        Inputs = [new TensorDescription("IN", Datatype.Int32, [-1]), new TensorDescription("DELAY", Datatype.Uint32, [-1]), new TensorDescription("WAIT", Datatype.Uint32, [1])],
        Outputs = [new TensorDescription("OUT", Datatype.Int32, [1]), new TensorDescription("IDX", Datatype.Uint32, [1])],
    };

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [EnumeratorCancellation] CancellationToken cancel)
    {
        var inputs = ConformanceModels.Fitting(Description, request);
        var (values, delays) = (inputs[0].As<int>().ToArray(), inputs[1].As<uint>().ToArray());
        if (values.Length != delays.Length || values.Length > MaxRepeats || delays.Any(delay => delay > MaxDelay))
        {
            throw new FailureException(InferenceErrors.WrongInputs(Description.Name, $"IN and DELAY must have as many elements, at most {MaxRepeats}, and no delay over {MaxDelay} ms"));
        }

        for (var i = 0; i < values.Length; i++)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(delays[i]), cancel).ConfigureAwait(false);
            yield return ConformanceModels.Answer(
                Description, request, Tensor.Of<int>("OUT", Datatype.Int32, [1], [values[i]]), Tensor.Of<uint>("IDX", Datatype.Uint32, [1], [(uint)i]));
        }
    }
}
