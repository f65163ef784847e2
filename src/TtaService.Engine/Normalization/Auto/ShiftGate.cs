namespace TtaService.Engine.Normalization.Auto;

/// <summary>How much of a site's running moments is taken over: the positive-part James-Stein weight, 0 as long as the number of frames and the classes in them explain
/// the distance from the source.</summary>
internal static class ShiftGate
{
    private const float MedianFactor = 2;

    /// <param name="distance">D of the running moments from the calibrated ones.</param>
    /// <param name="clock">Frames that they stand for.</param>
    /// <param name="classNoise">What the classes may have added.</param>
    public static float Weight(float distance, float clock, float classNoise) =>
        Math.Clamp(1 - (((1 / clock) + classNoise) / Math.Max(distance, 1e-9f)), 0, 1);

    /// <summary>Lets no site adapt by more than twice what the sites do in the median: a change of the camera shows everywhere.</summary>
    /// <param name="weights">The sites' weights.</param>
    /// <param name="scratch">As many.</param>
    public static void LimitToMedian(Span<float> weights, Span<float> scratch)
    {
        if (weights.IsEmpty)
        {
            return;
        }

        scratch = scratch[..weights.Length];
        weights.CopyTo(scratch);
        scratch.Sort();
        var limit = MedianFactor * scratch[(scratch.Length - 1) / 2];
        foreach (ref var weight in weights)
        {
            weight = Math.Min(weight, limit);
        }
    }
}
