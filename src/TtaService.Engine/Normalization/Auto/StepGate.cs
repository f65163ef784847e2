namespace TtaService.Engine.Normalization.Auto;

/// <summary>How much of a step's own moments, or of a single frame's, is used at once: only where they are further from the expected ones than chance and classes make them.</summary>
internal static class StepGate
{
    // Frames after which a stream has half shown that it is normal.
    private const float SettledFrames = 32;

    /// <summary>How far classes move a site's moments. A stream that has been normal for long rather shows another class than comes from another camera, so that there the furthest class counts and not the average one.</summary>
    /// <param name="normal">The site.</param>
    /// <param name="isNormal">Whether the running moments are taken over at none of the stream's sites.</param>
    /// <param name="clock">Frames that those stand for, and one.</param>
    public static float ClassNoise(SiteNormal normal, bool isNormal, float clock) => isNormal
        ? normal.ClassNoise + (Math.Max(normal.FurthestClass - normal.ClassNoise, 0) * (clock - 1) / (clock - 1 + SettledFrames))
        : normal.ClassNoise;

    /// <summary>R: the distance that a step's moments have without any change.</summary>
    /// <param name="classShare">Share of the frames' variance that classes explain at the site.</param>
    /// <param name="classNoise">How far classes move its moments.</param>
    /// <param name="frames">Frames of the step.</param>
    /// <param name="correlation">kappa: how alike the classes of its frames are.</param>
    /// <param name="imbalance">min(1, 3 chi): how unlike the stream's classes are to the calibration's.</param>
    public static float Noise(float classShare, float classNoise, int frames, float correlation, float imbalance)
    {
        var one = 1f / frames;
        return ((1 - classShare) * one) + (classNoise * Math.Max(one + ((1 - one) * correlation), imbalance));
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
