using TtaService.Engine.Drift;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <summary>What an opening found, at one moment.</summary>
/// <param name="Stream">The stream.</param>
/// <param name="Origin">How its state began, as this opening sees it.</param>
/// <param name="MaxPendingSteps">Steps that may wait.</param>
/// <param name="MaxFramesPerStep">Frames that a step may have.</param>
/// <param name="Warnings">What the client should know.</param>
public sealed record OpenedStream(StreamDescription Stream, StateOrigin Origin, int MaxPendingSteps, int MaxFramesPerStep, IReadOnlyList<string> Warnings)
{
    /// <summary>Its drift as of the latest sweep.</summary>
    public DriftLevel DriftLevel { get; init; }

    /// <summary>Its drift score as of the latest sweep; null when there is none.</summary>
    public double? DriftScore { get; init; }
}

/// <summary>A step's answer with the stream that gave it.</summary>
public sealed record SteppedStream(OpenedStream Opened, StepAnswer Answer);

/// <summary>Opens and steps streams, for whatever protocol. What is refused is a value; a protocol maps it with its status and never sees batches, stores or sessions.
/// Thread-safe.</summary>
public interface IStreamStepping
{
    /// <summary>Finds or creates a stream and makes the caller the one call that has it open; the call that had it hears so.</summary>
    /// <param name="request">Which, and how.</param>
    /// <param name="leaving">Ends the wait of a call that takes the stream from another too soon after the last.</param>
    Task<Outcome<IOpenStream>> OpenAsync(StreamRequest request, CancellationToken leaving);

    /// <summary>Runs one step of a stream; a call that has it open keeps it. Without a key the stream is fresh and ends with the step.</summary>
    Task<Outcome<SteppedStream>> StepAsync(StreamRequest request, SentStep step);

    /// <summary>Answers frames by the model as it was trained: no stream, and nothing is learned.</summary>
    /// <param name="model">Empty for the only model.</param>
    /// <param name="step">The frames; its number and its freezing are without meaning.</param>
    Task<StepOutcome> AnswerAsync(string model, SentStep step);
}

/// <summary>A call's hold on a stream. Disposal gives it back; the stream stays.</summary>
public interface IOpenStream : IDisposable
{
    /// <summary>Cancelled when another call opens the stream, or it ends.</summary>
    CancellationToken Lost { get; }

    /// <summary>Why the hold was lost, once <see cref="Lost"/> is cancelled.</summary>
    Failure WhyLost { get; }

    /// <summary>Waits for what an earlier call of the stream left running: it holds places that this one needs, and may move the last sequence number. Then tells what was
    /// opened.</summary>
    Task<OpenedStream> SettledAsync(CancellationToken cancel);

    /// <summary>Takes a step in: it keeps the place in the stream's order that it has now. The outcome comes when it ran or was refused.</summary>
    Task<StepOutcome> StepAsync(SentStep step);

    /// <summary>Ends the hold and saves the stream, so that its next opening finds it whole on any replica.</summary>
    /// <param name="ending">What steps that have not begun are told.</param>
    Task HandOverAsync(Failure ending);
}
