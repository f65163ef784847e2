using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;
using Google.Protobuf.WellKnownTypes;
using TtaService.Engine;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Host.Commands;
using TtaService.Host.Grpc;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;
using MethodChoice = TtaService.Serving.Streams.MethodChoice;
using StateOrigin = TtaService.Serving.Streams.StateOrigin;

namespace TtaService.Host.Inference;

/// <summary>A served network behind the Open Inference Protocol: a sequence is a stream; without one the source model answers and nothing is learned.</summary>
internal sealed class NetworkModel : IInferenceModel
{
    private readonly ServedModel _model;
    private readonly StreamDirectory _directory;
    private readonly StepReader _steps;

    public NetworkModel(ServedModel model, StreamDirectory directory, StepReader steps, StreamsOptions options)
    {
        (_model, _directory, _steps) = (model, directory, steps);
        var engine = model.Engine.Model;
        Description = new InferenceModelDescription
        {
            Name = model.Name,
            Platform = "onnx_tta",
            MaxBatch = steps.MaxFramesPerStep(model),
            HasSequences = true,
            SequenceIdle = options.IdleTimeout,
            Inputs = [new TensorDescription(engine.InputName, Datatype.Fp32, Batched(engine.InputShape))],
            Outputs = [.. engine.Outputs.Select(output => new TensorDescription(output.Name, Datatype.Fp32, Batched(output.Shape)))],
            Facts = new Dictionary<string, string>
            {
                ["tta_default_method"] = model.DefaultMethod.Name,
                ["tta_sites"] = engine.Sites.Count.ToString(CultureInfo.InvariantCulture),
                ["tta_digest"] = engine.Digest,
            },
        };
    }

    public InferenceModelDescription Description { get; }

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [EnumeratorCancellation] CancellationToken cancel)
    {
        yield return await RunAsync(request, cancel).ConfigureAwait(false);
    }

    // A number is a sequence of this model only, as it is in Triton; a text is a camera's name, the same for all protocols.
    private string StreamOf(RequestParameters parameters) => StreamRequests.CheckedName(parameters.IsNumbered ? $"{Description.Name}:{parameters.Sequence}" : parameters.Sequence!, "sequence_id");

    private static IReadOnlyList<long> Batched(IReadOnlyList<long> shape) => shape.Count == 0 ? [-1] : [-1, .. shape.Skip(1)];

    private static MethodChoice? MethodOf(RequestParameters parameters, MethodChoice? otherwise)
    {
        if (parameters.Method is not { Length: > 0 } expression)
        {
            return otherwise;
        }

        try
        {
            var choice = MethodExpressions.ParseSingle(expression);
            return new MethodChoice(choice.Settings.Name, choice.Given);
        }
        catch (Exception wrong) when (wrong is CommandException or MethodSettingsException)
        {
            throw new FailureException(Failure.Invalid("METHOD_INVALID", "tta_method", $"parameter 'tta_method': {wrong.Message}"));
        }
    }

    private async Task<InferenceResponse> RunAsync(InferenceRequest request, CancellationToken cancel)
    {
        var step = new StepRequest { Frames = { FrameInput.Read(Description, request) } };
        if (request.Parameters.Freeze is { } freeze)
        {
            step.Freeze = freeze;
        }

        if (request.Parameters.Timeout is { } timeout)
        {
            step.Timeout = Duration.FromTimeSpan(timeout);
        }

        var outputs = AskedOutputs(request);
        var content = new ReplyContent(outputs.Max(output => output.Classes), outputs.Any(output => output.Classes == 0));
        if (request.Parameters.Sequence is null)
        {
            return await RunAloneAsync(request, step, content, outputs, cancel).ConfigureAwait(false);
        }

        var name = StreamOf(request.Parameters);
        var response = await RunInStreamAsync(name, request, step, content, outputs, cancel).ConfigureAwait(false);
        if (request.Parameters is { End: true, Keep: false })
        {
            await _directory.DeleteAsync(name).ConfigureAwait(false);
        }

        return response;
    }

    private async Task<InferenceResponse> RunAloneAsync(InferenceRequest request, StepRequest step, ReplyContent content, IReadOnlyList<RequestedOutput> outputs, CancellationToken cancel)
    {
        var opening = new StreamRequest { Name = string.Empty, Model = Description.Name, Method = MethodOf(request.Parameters, new MethodChoice("source", null)) };
        var session = await _directory.CreateUnlistedAsync(opening).ConfigureAwait(false);
        try
        {
            var answer = await StepAsync(session, step, content, cancel).ConfigureAwait(false);
            return new InferenceResponse { Outputs = Write(answer, outputs, step.Frames.Count), Parameters = new Dictionary<string, object> { ["tta_method"] = answer.Method, ["tta_learned"] = false } };
        }
        finally
        {
            await _directory.DiscardAsync(session).ConfigureAwait(false);
        }
    }

    private async Task<InferenceResponse> RunInStreamAsync(string name, InferenceRequest request, StepRequest step, ReplyContent content, IReadOnlyList<RequestedOutput> outputs, CancellationToken cancel)
    {
        var parameters = request.Parameters;
        var opening = new StreamRequest
        {
            Name = name,
            Model = Description.Name,
            Method = MethodOf(parameters, null),
            Mode = parameters.Reset || parameters is { Start: true, Resume: false } ? ResumeMode.Reset : parameters.Start ? ResumeMode.ContinueOrCreate : ResumeMode.MustExist,
            Client = request.Client,
            Root = "parameters",
        };
        while (true)
        {
            try
            {
                var (session, origin) = await _directory.VisitAsync(opening).ConfigureAwait(false);
                var answer = await StepAsync(session, step, content, cancel).ConfigureAwait(false);
                return new InferenceResponse { Outputs = Write(answer, outputs, step.Frames.Count), Parameters = Told(session, origin, answer) };
            }
            catch (FailureException idled) when (idled.Failure.Reason == Failure.UnloadedReason)
            {
                // It left for the store between the two lines above; asking again brings it back, and must not reset it once more.
                opening = opening with { Mode = ResumeMode.ContinueOrCreate };
            }
            catch (FailureException missing) when (missing.Failure.Kind == FailureKind.NotFound && opening.Mode == ResumeMode.MustExist)
            {
                throw new FailureException(InferenceErrors.MustStart(parameters.Sequence!, Description.Name));
            }
        }
    }

    private async Task<StepAnswer> StepAsync(StreamSession session, StepRequest step, ReplyContent content, CancellationToken cancel)
    {
        var outcome = await session.Model.Batcher.SubmitAsync(session, _steps.Read(session.Model, step, content, cancel)).ConfigureAwait(false);
        return outcome.Answer ?? throw new FailureException(outcome.Failure!);
    }

    private static Dictionary<string, object> Told(StreamSession session, StateOrigin origin, StepAnswer answer)
    {
        var told = new Dictionary<string, object>
        {
            ["tta_stream"] = session.Name,
            ["tta_method"] = answer.Method,
            ["tta_state"] = Label<StateOrigin>.Of(origin),
            ["tta_step"] = answer.Steps,
            ["tta_learned"] = answer.NotLearned.Count == 0 && !session.Settings.Frozen,
            ["tta_drift_level"] = Label<Engine.Drift.DriftLevel>.Of(session.Watch.Level),
        };
        if (session.Watch.Last?.Score is { } score)
        {
            told["tta_drift"] = (double)score;
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
        var scores = _model.Engine.Model.Scores;
        foreach (var asked in request.Outputs)
        {
            if (!Description.Outputs.Any(output => output.Name == asked.Name))
            {
                throw new FailureException(InferenceErrors.WrongInputs(Description.Name, $"unexpected inference output '{ForeignText.Clip(asked.Name)}'; there is {string.Join(", ", Description.Outputs.Select(output => output.Name))}"));
            }

            if (asked.Classes > 0 && asked.Name != scores?.Name)
            {
                throw new FailureException(InferenceErrors.WrongInputs(Description.Name, $"output '{ForeignText.Clip(asked.Name)}' holds no class scores, so classification is not possible"));
            }
        }

        return request.Outputs.Count > 0 ? request.Outputs : [.. Description.Outputs.Select(output => new RequestedOutput(output.Name, 0))];
    }

    private static IReadOnlyList<Tensor> Write(StepAnswer answer, IReadOnlyList<RequestedOutput> outputs, int frames) => [.. outputs.Select(asked =>
    {
        if (asked.Classes > 0)
        {
            var classes = Math.Min(asked.Classes, answer.Predictions[0].Length);
            return Tensor.Of(asked.Name, [frames, classes], [.. answer.Predictions.SelectMany(scores => scores.Take(classes)).Select(Line)]);
        }

        var output = answer.Outputs.First(output => output.Name == asked.Name);
        return Tensor.Of<float>(asked.Name, Datatype.Fp32, [.. output.Shape.Select(extent => (long)extent)], output.Values);
    })];

    // As Triton's classification extension writes a class.
    private static ReadOnlyMemory<byte> Line(ClassScore score) => Encoding.UTF8.GetBytes(string.Create(
        CultureInfo.InvariantCulture, $"{score.Probability:0.000000}:{score.Index}{(score.Label.Length > 0 ? $":{score.Label}" : string.Empty)}"));
}
