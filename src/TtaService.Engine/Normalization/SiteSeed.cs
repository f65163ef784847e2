namespace TtaService.Engine.Normalization;

/// <summary>Counter-based normal deviates for one site: the same model, site and stream seed give the same numbers on every machine.</summary>
public readonly struct SiteSeed
{
    private readonly ulong _key;

    // Mixed from the model digest, the site index and the stream's seed.
    private SiteSeed(ulong key) => _key = key;

    internal static SiteSeed Create(ulong modelKey, int site, ulong streamSeed) =>
        new(Mix(Mix(modelKey ^ Mix(streamSeed)) + (ulong)site));

    /// <summary>The i-th deviate of N(0,1), by Box-Muller over SplitMix64.</summary>
    public float Normal(int i)
    {
        var radius = Math.Sqrt(-2 * Math.Log(Uniform((2 * (ulong)i) + 1)));
        return (float)(radius * Math.Cos(2 * Math.PI * Uniform((2 * (ulong)i) + 2)));
    }

    // In (0,1): the logarithm above must stay finite.
    private double Uniform(ulong counter) => ((Mix(_key + (counter * 0x9E3779B97F4A7C15)) >> 11) + 0.5) / (1UL << 53);

    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
