using System.Collections.Concurrent;
using System.Globalization;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference.Conformance;

/// <summary>Answers with what a sequence has come to: INPUT to OUTPUT, one number a request.</summary>
internal sealed class SequenceModel : IInferenceModel
{
    private const int MaxSequences = 4096;

    private readonly bool _sums;
    private readonly bool _countsStart;
    private readonly bool _addsId;
    private readonly ConcurrentDictionary<string, int> _sequences = new(StringComparer.Ordinal);

    private SequenceModel(string name, bool sums, bool countsStart, bool addsId)
    {
        (_sums, _countsStart, _addsId) = (sums, countsStart, addsId);
        Description = new InferenceModelDescription
        {
            Name = name,
            Platform = "tta_conformance",
            MaxBatch = ConformanceModels.MaxBatch,
            HasSequences = true,
            Inputs = [new TensorDescription("INPUT", Datatype.Int32, [-1, 1])],
            Outputs = [new TensorDescription("OUTPUT", Datatype.Int32, [-1, 1])],
        };
    }

    public InferenceModelDescription Description { get; }

    /// <summary>The input, one more at the start, and with <paramref name="addsId"/> the sequence's number more at the end.</summary>
    public static SequenceModel Counting(string name, bool addsId) => new(name, sums: false, countsStart: true, addsId);

    /// <summary>The sum of the inputs, the sequence's number more at the end.</summary>
    public static SequenceModel Summing(string name) => new(name, sums: true, countsStart: false, addsId: true);

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        await Task.CompletedTask.ConfigureAwait(false);
        var input = ConformanceModels.Fitting(Description, request)[0];
        if (input.Elements != 1)
        {
            throw new FailureException(InferenceErrors.WrongInputs(Description.Name, "a request of a sequence has one number"));
        }

        var sequence = request.Parameters.Sequence ?? throw new FailureException(InferenceErrors.NoSequence(Description.Name));
        var before = 0;
        if (!request.Parameters.Start && !_sequences.TryGetValue(sequence, out before))
        {
            throw new FailureException(InferenceErrors.MustStart(sequence, Description.Name));
        }

        if (request.Parameters.Start && _sequences.Count >= MaxSequences)
        {
            throw new FailureException(new Failure(FailureKind.ResourceExhausted, "TOO_MANY_SEQUENCES", $"the model keeps {MaxSequences} sequences; end some"));
        }

        var value = input.As<int>()[0] + (_sums ? before : 0);
        var answer = value + (request.Parameters.Start && _countsStart ? 1 : 0);
        if (request.Parameters.End)
        {
            answer += _addsId ? Number(sequence) : 0;
            _sequences.TryRemove(sequence, out _);
        }
        else
        {
            _sequences[sequence] = value;
        }

        yield return ConformanceModels.Answer(Description, request, Tensor.Of<int>("OUTPUT", Datatype.Int32, input.Shape, [answer]));
    }

    private int Number(string sequence) => int.TryParse(sequence, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out var number)
        ? number
        : throw new FailureException(InferenceErrors.WrongInputs(Description.Name, $"sequence '{Engine.ForeignText.Clip(sequence)}' is no number"));
}
