using TtaService.Engine.Normalization;

namespace TtaService.Engine.Execution;

/// <summary>What the sites found of the frames of one step, while a pass goes over them.</summary>
/// <remarks>
/// Whether a frame lies outside is asked at the first site whose statistics are read: all before it is normalized as in training, so the answer depends on the frame and
/// the model alone.
/// Deeper sites see what the stream's own statistics made of the frame, and those of a camera of one class can lie far from the source where every frame is in order.
/// </remarks>
internal sealed class FrameVerdicts
{
    private bool _isJudged;

    /// <summary>Whether <see cref="Misfit"/> is taken, which costs more.</summary>
    public bool ComparesFit { get; init; }

    /// <summary>How badly what normalized the frames describes them, summed over sites and frames; see <see cref="SiteRange.Misfit"/>.</summary>
    public double Misfit { get; set; }

    /// <summary>Whether a frame lies far outside of what the model knows.</summary>
    public bool AnyOutside { get; private set; }

    /// <summary>True once: the first site asks and judges.</summary>
    public bool Judges() => !_isJudged && (_isJudged = true);

    /// <summary>Takes a frame's energy at the judging site.</summary>
    public void Judge(SiteRange range, float energy) => AnyOutside |= !(energy <= range.EnergyLimit);
}
