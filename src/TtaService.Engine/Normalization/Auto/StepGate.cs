namespace TtaService.Engine.Normalization.Auto;

/// <summary>How much of a step's own moments, or of a single frame's, is used at once: only where they are further from the expected ones than chance and classes make them.</summary>
internal static class StepGate
{
    /// <summary>R: the distance that a step's moments have without any change.</summary>
    /// <param name="normal">The site.</param>
    /// <param name="frames">Frames of the step.</param>
    /// <param name="correlation">kappa: how alike the classes of its frames are.</param>
    /// <param name="imbalance">min(1, 3 chi): how unlike the stream's classes are to the calibration's.</param>
    public static float Noise(SiteNormal normal, int frames, float correlation, float imbalance)
    {
        var one = 1f / frames;
        return ((1 - normal.ClassShare) * one) + (normal.ClassNoise * Math.Max(one + ((1 - one) * correlation), imbalance));
    }

    /// <summary>The weight of the step's moments.</summary>
    /// <param name="distance">D of the step's moments from the expected ones.</param>
    /// <param name="noise">R.</param>
    /// <param name="correlation">kappa.</param>
    /// <param name="imbalance">min(1, 3 chi).</param>
    /// <param name="uncertainty">What the expected moments themselves lack: the site's weight over the clock.</param>
    public static float StepWeight(float distance, float noise, float correlation, float imbalance, float uncertainty)
    {
        var signal = Math.Max(Math.Max((1 - correlation) * uncertainty, distance - ((1 + imbalance) * noise)), 0);
        return signal / (signal + noise);
    }

    /// <summary>The weight of a frame's own moments.</summary>
    /// <param name="distance">D of the frame from the expected moments; the smaller of that and its distance from its own step.</param>
    /// <param name="usual">The distance that normal frames stay below.</param>
    public static float FrameWeight(float distance, float usual)
    {
        var signal = Math.Max(0, distance - usual);
        return float.IsPositiveInfinity(signal) ? 1 : signal / (signal + 1);
    }
}
