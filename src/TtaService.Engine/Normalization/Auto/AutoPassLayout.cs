namespace TtaService.Engine.Normalization.Auto;

/// <summary>Where the numbers of one pass lie: what the sites read, and what they keep.</summary>
internal sealed class AutoPassLayout
{
    /// <summary>kappa.</summary>
    public const int Correlation = 0;

    /// <summary>min(1, 3 chi).</summary>
    public const int Imbalance = 1;

    /// <summary>T.</summary>
    public const int Trust = 2;

    /// <summary>1 in a stream's first step.</summary>
    public const int IsFirst = 3;

    /// <summary>By how much a frame may lie further away than normal ones do.</summary>
    public const int FrameTolerance = 4;

    /// <summary>Figures before the sites'.</summary>
    public const int HeaderFloats = 5;

    /// <summary>The first float that a site keeps: 1 when it was measured.</summary>
    public const int WasMeasured = 0;

    private readonly int[] _slots;
    private readonly int[] _channels;
    private readonly int[] _channelsBefore;
    private readonly int _allChannels;

    public AutoPassLayout(IReadOnlyList<NormalizationSite> sites)
    {
        _slots = new int[sites.Count == 0 ? 0 : sites.Max(site => site.Index) + 1];
        Array.Fill(_slots, -1);
        _channels = [.. sites.Select(site => site.Channels)];
        _channelsBefore = new int[sites.Count];
        for (var i = 0; i < sites.Count; i++)
        {
            _slots[sites[i].Index] = i;
            _channelsBefore[i] = _allChannels;
            _allChannels = checked(_allChannels + sites[i].Channels);
        }

        MostChannels = sites.Count == 0 ? 0 : _channels.Max();
    }

    public int MostChannels { get; }

    /// <summary>Header; per site e [C], s [C], w/(W+1).</summary>
    public int BegunFloats => HeaderFloats + (2 * _allChannels) + _channels.Length;

    /// <summary>Per site the mark, m [n,C], v [n,C], bm [C], bv [C].</summary>
    public int KeptFloats(int frames) => checked(_channels.Length + ((2 * frames) + 2) * _allChannels);

    /// <summary>A site's place among the method's; -1 for a site that it leaves alone.</summary>
    public int Slot(NormalizationSite site) => site.Index < _slots.Length ? _slots[site.Index] : -1;

    public int BegunOffset(int slot) => HeaderFloats + (2 * _channelsBefore[slot]) + slot;

    public int KeptOffset(int slot, int frames) => slot + (((2 * frames) + 2) * _channelsBefore[slot]);

    public int UncertaintyAt(int slot) => BegunOffset(slot) + (2 * _channels[slot]);

    public Span<float> ExpectedMean(Span<float> begun, int slot) => begun.Slice(BegunOffset(slot), _channels[slot]);

    public Span<float> ExpectedVariance(Span<float> begun, int slot) => begun.Slice(BegunOffset(slot) + _channels[slot], _channels[slot]);

    /// <summary>e [C], s [C], w/(W+1).</summary>
    public ReadOnlySpan<float> BegunAt(ReadOnlySpan<float> begun, int slot) => begun.Slice(BegunOffset(slot), (2 * _channels[slot]) + 1);

    public Span<float> KeptAt(Span<float> kept, int slot, int frames) => kept.Slice(KeptOffset(slot, frames), 1 + (((2 * frames) + 2) * _channels[slot]));

    public ReadOnlySpan<float> KeptAt(ReadOnlySpan<float> kept, int slot, int frames) => kept.Slice(KeptOffset(slot, frames), 1 + (((2 * frames) + 2) * _channels[slot]));

    /// <summary>A frame's m, [C], among what a site kept.</summary>
    public static ReadOnlySpan<float> Mean(ReadOnlySpan<float> kept, int channels, int frame) => kept.Slice(1 + (frame * channels), channels);

    /// <summary>A frame's v, [C], among what a site kept.</summary>
    public static ReadOnlySpan<float> Variance(ReadOnlySpan<float> kept, int channels, int frames, int frame) => kept.Slice(1 + ((frames + frame) * channels), channels);
}
