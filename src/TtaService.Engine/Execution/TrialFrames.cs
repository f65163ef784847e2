namespace TtaService.Engine.Execution;

/// <summary>Made-up frames for <see cref="PassProbe"/>.</summary>
internal static class TrialFrames
{
    /// <summary>A frame, or a clip as one of more channels: smooth shapes of different contrast and brightness a channel, with noise on top, so that what two frames average to
    /// differs at every depth.</summary>
    /// <param name="size">Of the frame.</param>
    /// <param name="seed">Another one for another frame.</param>
    /// <param name="normalization">Of the model.</param>
    public static FrameBlock Make((int Channels, int Height, int Width) size, int seed, InputNormalization normalization)
    {
        var random = new Random(seed);
        var values = new float[size.Channels * size.Height * size.Width];
        var at = 0;
        for (var c = 0; c < size.Channels; c++)
        {
            var (level, contrast, noise) = (random.NextDouble() - 0.5, 0.3 + random.NextDouble(), 0.1 + (0.4 * random.NextDouble()));
            var (down, across, phase) = (6 * random.NextDouble(), 6 * random.NextDouble(), 6 * random.NextDouble());
            for (var y = 0; y < size.Height; y++)
            {
                for (var x = 0; x < size.Width; x++)
                {
                    var wave = Math.Sin((down * y / size.Height) + (across * x / size.Width) + phase);
                    values[at++] = Value(level + (contrast * wave) + (noise * ((2 * random.NextDouble()) - 1)), c, normalization);
                }
            }
        }

        return FrameBlock.FromValues(values, 1, size.Channels, size.Height, size.Width);
    }

    // A graph that takes pixels, or something near them, is fed that.
    private static float Value(double normal, int channel, InputNormalization normalization) =>
        normalization.Scale is null
            ? (float)normal
            : normalization.Apply((int)Math.Clamp(128 + (64 * normal), 0, 255), channel % normalization.Mean.Length);
}
