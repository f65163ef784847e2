using TtaService.Engine.Normalization;

namespace TtaService.Engine.Execution;

/// <summary>What the sites found of the frames of one step, while a pass goes over them.</summary>
internal sealed class FrameVerdicts(int frames)
{
    // Of the sites that were judged: a garbled picture shows everywhere, a site that the source never exercised alone shows nothing.
    private const double ManySites = 0.25;

    private readonly int[] _outside = new int[frames];
    private int _sites;

    /// <summary>Whether <see cref="Misfit"/> is taken, which costs more.</summary>
    public bool ComparesFit { get; init; }

    /// <summary>How badly what normalized the frames describes them, summed over sites and frames; see <see cref="SiteRange.Misfit"/>.</summary>
    public double Misfit { get; set; }

    /// <summary>Whether a frame lies far outside at many sites.</summary>
    public bool AnyOutside => Array.Exists(_outside, sites => IsOutside(sites, _sites));

    /// <summary>Whether so many sites of those that judged are many.</summary>
    public static bool IsOutside(int sites, int judged) => sites > 0 && sites >= ManySites * judged;

    /// <summary>Counts a site's finding, an energy a frame.</summary>
    public void Judge(SiteRange range, ReadOnlySpan<float> energies)
    {
        _sites++;
        for (var frame = 0; frame < energies.Length; frame++)
        {
            _outside[frame] += energies[frame] <= range.EnergyLimit ? 0 : 1;
        }
    }
}
