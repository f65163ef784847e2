using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using TtaService.Engine;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Host.Commands;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using MethodChoice = TtaService.Serving.Streams.MethodChoice;

namespace TtaService.Host.Inference;

/// <summary>A served network behind the Open Inference Protocol: a sequence is a stream; without one the source model answers and nothing is learned.</summary>
internal sealed class NetworkModel : IInferenceModel
{
    private const string UnfilteredPrefix = "tta_unfiltered:";

    private readonly ModelDescription _model;
    private readonly IStreamStepping _streams;
    private readonly IStreamOperations _operations;
    private readonly MethodRegistry _methods;

    public NetworkModel(ModelDescription model, IStreamStepping streams, IStreamOperations operations, StreamsOptions options, MethodRegistry methods)
    {
        (_model, _streams, _operations, _methods) = (model, streams, operations, methods);
        Description = new InferenceModelDescription
        {
            Name = model.Name,
            Version = model.Version.ToString(CultureInfo.InvariantCulture),
            Platform = "onnx_tta",
            MaxBatch = model.MaxFramesPerStep,
            HasSequences = true,
            SequenceIdle = options.IdleTimeout,
            Inputs = [new TensorDescription(model.InputName, Datatype.Fp32, Batched(model.InputShape))],
            Outputs = [.. model.Outputs.Select(output => new TensorDescription(output.Name, Datatype.Fp32, Batched(output.Shape)))],
            Facts = new Dictionary<string, string>
            {
                ["tta_default_method"] = model.DefaultMethod.Name,
                ["tta_sites"] = model.Sites.Count.ToString(CultureInfo.InvariantCulture),
                ["tta_digest"] = model.Digest,
            },
        };
    }

    public InferenceModelDescription Description { get; }

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [EnumeratorCancellation] CancellationToken cancel)
    {
        yield return await RunAsync(request, cancel).ConfigureAwait(false);
    }

    // A number is a sequence of this model only, as it is in Triton; a text is a camera's name, the same for all protocols.
    private StreamKey StreamOf(RequestParameters parameters) =>
        StreamKey.Checked(parameters.IsNumbered ? $"{Description.Name}:{parameters.Sequence}" : parameters.Sequence!, "sequence_id");

    private static IReadOnlyList<long> Batched(IReadOnlyList<long> shape) => shape.Count == 0 ? [-1] : [-1, .. shape.Skip(1)];

    private MethodChoice? MethodOf(RequestParameters parameters)
    {
        if (parameters.Method is not { Length: > 0 } expression)
        {
            return null;
        }

        try
        {
            var choice = MethodExpressions.ParseSingle(expression, _methods);
            return new MethodChoice(choice.Settings.Name, choice.Given);
        }
        catch (Exception wrong) when (wrong is CommandException or MethodSettingsException)
        {
            throw new FailureException(Failure.Invalid("METHOD_INVALID", "tta_method", $"parameter 'tta_method': {wrong.Message}"));
        }
    }

    private async Task<InferenceResponse> RunAsync(InferenceRequest request, CancellationToken cancel)
    {
        var outputs = AskedOutputs(request);
        if (request.Parameters.Unfiltered && _model.Scores is null)
        {
            throw new FailureException(InferenceErrors.WrongInputs(Description.Name, "parameter 'tta_unfiltered' asks for class scores, and the model answers none; leave it out"));
        }

        var step = new SentStep
        {
            Frames = FrameInput.Read(Description, request),
            Freeze = request.Parameters.Freeze,
            Timeout = request.Parameters.Timeout?.TotalSeconds,
            Content = new ReplyContent(outputs.Max(output => output.Classes), outputs.Any(output => output.Classes == 0) || request.Parameters.Unfiltered)
            {
                Reads = false,
                Unfiltered = request.Parameters.Unfiltered,
            },
            Cancel = cancel,
        };
        if (request.Parameters.Sequence is null)
        {
            return await RunAloneAsync(request, step, outputs).ConfigureAwait(false);
        }

        var stream = StreamOf(request.Parameters);
        var response = await RunInStreamAsync(stream, request, step, outputs).ConfigureAwait(false);
        if (request.Parameters is { End: true, Keep: false })
        {
            (await _operations.DeleteAsync(stream).ConfigureAwait(false)).OrThrow();
        }

        return response;
    }

    private async Task<InferenceResponse> RunAloneAsync(InferenceRequest request, SentStep step, IReadOnlyList<RequestedOutput> outputs)
    {
        var answer = MethodOf(request.Parameters) is { } method
            ? (await _streams.StepAsync(new StreamRequest { Key = default, Model = Description.Name, Method = method }, step).ConfigureAwait(false)).OrThrow().Answer
            : await AsTrainedAsync(step).ConfigureAwait(false);
        return new InferenceResponse
        {
            Outputs = Write(answer, outputs, step.Frames.Count),
            Parameters = new Dictionary<string, object> { ["tta_method"] = answer.Method, ["tta_learned"] = false },
        };
    }

    private async Task<StepAnswer> AsTrainedAsync(SentStep step)
    {
        var outcome = await _streams.AnswerAsync(Description.Name, step).ConfigureAwait(false);
        return outcome.Answer ?? throw new FailureException(outcome.Failure!);
    }

    private async Task<InferenceResponse> RunInStreamAsync(StreamKey stream, InferenceRequest request, SentStep step, IReadOnlyList<RequestedOutput> outputs)
    {
        var parameters = request.Parameters;
        var opening = new StreamRequest
        {
            Key = stream,
            Model = Description.Name,
            Method = MethodOf(parameters),
            Mode = parameters.Reset || parameters is { Start: true, Resume: false } ? ResumeMode.Reset : parameters.Start ? ResumeMode.ContinueOrCreate : ResumeMode.MustExist,
            Client = request.Client,
            Root = "parameters",
        };
        var stepped = await _streams.StepAsync(opening, step).ConfigureAwait(false);
        if (stepped.Failure is { Kind: FailureKind.NotFound } && opening.Mode == ResumeMode.MustExist)
        {
            throw new FailureException(InferenceErrors.MustStart(parameters.Sequence!, Description.Name));
        }

        var (opened, answer) = stepped.OrThrow();
        return new InferenceResponse { Outputs = Write(answer, outputs, step.Frames.Count), Parameters = Told(opened, answer, step.Freeze) };
    }

    private static Dictionary<string, object> Told(OpenedStream opened, StepAnswer answer, bool? freeze)
    {
        var told = new Dictionary<string, object>
        {
            ["tta_stream"] = opened.Stream.Name,
            ["tta_method"] = answer.Method,
            ["tta_state"] = Label<StateOrigin>.Of(opened.Origin),
            ["tta_step"] = answer.Steps,
            ["tta_learned"] = answer.NotLearned.Count == 0 && !(freeze ?? opened.Stream.Settings.Frozen),
            ["tta_filtered"] = answer.Filtered,
            ["tta_drift_level"] = Label<Engine.Drift.DriftLevel>.Of(opened.DriftLevel),
        };
        if (opened.DriftScore is { } score)
        {
            told["tta_drift"] = score;
        }

        if (answer.RolledBack)
        {
            told["tta_rolled_back"] = true;
        }

        if (answer.NotLearned.Count > 0)
        {
            told["tta_not_learned"] = string.Join(',', answer.NotLearned.Select(frame => $"{frame.Frame}:{Label<NotLearnedReason>.Of(frame.Reason)}"));
        }

        return told;
    }

    // All, when none is asked for.
    private IReadOnlyList<RequestedOutput> AskedOutputs(InferenceRequest request)
    {
        var scores = _model.Scores;
        foreach (var asked in request.Outputs)
        {
            if (!Description.Outputs.Any(output => output.Name == asked.Name))
            {
                throw new FailureException(InferenceErrors.WrongInputs(
                    Description.Name,
                    $"unexpected inference output '{ForeignText.Clip(asked.Name)}'; there is {string.Join(", ", Description.Outputs.Select(output => output.Name))}"));
            }

            if (asked.Classes > 0 && asked.Name != scores?.Name)
            {
                throw new FailureException(InferenceErrors.WrongInputs(
                    Description.Name,
                    $"output '{ForeignText.Clip(asked.Name)}' holds no class scores, so classification is not possible"));
            }
        }

        return request.Outputs.Count > 0 ? request.Outputs : [.. Description.Outputs.Select(output => new RequestedOutput(output.Name, 0))];
    }

    private static IReadOnlyList<Tensor> Write(StepAnswer answer, IReadOnlyList<RequestedOutput> outputs, int frames) =>
        answer.UnfilteredScores is { } scores ? [.. Asked(answer, outputs, frames), Floats(UnfilteredPrefix + scores.Name, scores)] : [.. Asked(answer, outputs, frames)];

    private static Tensor Floats(string name, OutputTensor output) => Tensor.Of<float>(name, Datatype.Fp32, [.. output.Shape.Select(extent => (long)extent)], output.Values);

    private static IEnumerable<Tensor> Asked(StepAnswer answer, IReadOnlyList<RequestedOutput> outputs, int frames) => outputs.Select(asked =>
    {
        if (asked.Classes > 0)
        {
            var classes = Math.Min(asked.Classes, answer.Predictions[0].Length);
            return Tensor.Of(asked.Name, [frames, classes], [.. answer.Predictions.SelectMany(scores => scores.Take(classes)).Select(Line)]);
        }

        return Floats(asked.Name, answer.Outputs.First(output => output.Name == asked.Name));
    });

    // As Triton's classification extension writes a class.
    private static ReadOnlyMemory<byte> Line(ClassScore score) => Encoding.UTF8.GetBytes(string.Create(
        CultureInfo.InvariantCulture, $"{score.Probability:0.000000}:{score.Index}{(score.Label.Length > 0 ? $":{score.Label}" : string.Empty)}"));
}
