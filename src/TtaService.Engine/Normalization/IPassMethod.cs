using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Normalization;

/// <summary>A method that sees a whole pass: it begins with the stream's state, decides at each site, and moves the state when the predictions are known; it may change
/// the answer.</summary>
/// <remarks>At the sites it reads what <see cref="Begin"/> wrote and keeps what <see cref="Complete"/> will need; there it leaves the proposed state alone. On a device the sites
/// run in torch operators, while beginning and completing are the host's: two transfers a batch.</remarks>
public interface IPassMethod : IStreamMethod
{
    /// <summary>Floats that <see cref="Begin"/> writes for the sites of a pass.</summary>
    int BegunFloats { get; }

    /// <summary>Floats that the sites keep for <see cref="Complete"/>, for a step of so many frames.</summary>
    int KeptFloats(int frames);

    /// <summary>Of how many frames, from the start of a step, the source's own answer is wanted, too.</summary>
    int SourceFrames(int frames, long framesBefore);

    /// <summary>The same once the pass has run: a method may want the source's answer of more frames for what its own are. At most the step's frames.</summary>
    /// <param name="step">The step, without a proposed state.</param>
    /// <param name="scores">The class scores of its frames, [n,Q]; empty for a model that answers no classes.</param>
    /// <param name="planned">What was wanted before the pass.</param>
    int SourceFrames(in PassStep step, ReadOnlySpan<float> scores, int planned) => planned;

    /// <summary>Prepares a pass from the state: fills <see cref="PassStep.Begun"/>.</summary>
    void Begin(in PassStep step);

    /// <summary>Fills <see cref="PassStep.NextState"/>, and may replace the answer.</summary>
    /// <param name="step">What the sites kept.</param>
    /// <param name="scores">The class scores of the step's frames, [n,Q]; empty for a model that answers no classes.</param>
    /// <param name="sourceScores">The source's scores of its first frames, [k,Q]; empty when none were wanted.</param>
    /// <returns>Whether the scores were replaced.</returns>
    bool Complete(in PassStep step, Span<float> scores, ReadOnlySpan<float> sourceScores);
}

/// <summary>A step before and after its pass.</summary>
public readonly ref struct PassStep
{
    /// <summary>Where sites lie in the rows.</summary>
    internal StateLayout Layout { get; init; }

    /// <summary>Frames n of the step.</summary>
    public required int Frames { get; init; }

    /// <summary>Frames of the stream that were committed before this step.</summary>
    public required long FramesBefore { get; init; }

    /// <summary>The stream's row before the step: its state at every site and what it keeps besides.</summary>
    public required ReadOnlySpan<float> State { get; init; }

    /// <summary>The proposed row, to be filled as a whole; empty before the pass.</summary>
    public Span<float> NextState { get; init; }

    /// <summary>What the sites read.</summary>
    public required Span<float> Begun { get; init; }

    /// <summary>What the sites kept; empty before the pass.</summary>
    public ReadOnlySpan<float> Kept { get; init; }

    /// <summary>The stream's state at a site before the step.</summary>
    public ReadOnlySpan<float> StateAt(NormalizationSite site) => State.Slice(Layout.At(site).Offset, Layout.At(site).Length);

    /// <summary>The proposed state at a site; there is none before the pass.</summary>
    public Span<float> NextStateAt(NormalizationSite site) => NextState.Slice(Layout.At(site).Offset, Layout.At(site).Length);

    /// <summary>The tensors of <see cref="IStreamMethod.StreamState"/> before the step.</summary>
    public ReadOnlySpan<float> StreamState => State.Slice(Layout.Stream.Offset, Layout.Stream.Length);

    /// <summary>The proposed tensors of <see cref="IStreamMethod.StreamState"/>; there are none before the pass.</summary>
    public Span<float> NextStreamState => NextState.Slice(Layout.Stream.Offset, Layout.Stream.Length);
}

/// <summary>What a method adapts.</summary>
/// <param name="Sites">The sites where it decides, in execution order.</param>
/// <param name="Classes">Classes that the model answers; 0 for none.</param>
/// <param name="Calibration">What is normal for the model; null when it was not calibrated.</param>
/// <param name="Scores">The output with the classes' scores; null for none.</param>
public sealed record MethodTarget(IReadOnlyList<NormalizationSite> Sites, int Classes = 0, ModelCalibration? Calibration = null, ModelOutput? Scores = null)
{
    /// <summary>Floats D of the features that the classes' scores are computed from; 0 where the graph does not show them.</summary>
    public int Features { get; init; }
}
