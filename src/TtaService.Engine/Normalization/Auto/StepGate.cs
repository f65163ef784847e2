namespace TtaService.Engine.Normalization.Auto;

/// <summary>How much of a step's own moments, or of a single frame's, is used at once: only where they are further from the expected ones than chance and classes make
/// them.</summary>
internal static class StepGate
{
    private const float NormalDistance = 1.25f;
    private const float AbnormalDistance = 1.75f;
    private const float FramesToShow = 16;

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

    /// <summary>How far a step of one class lies from that class without any change: frames that follow each other are neither alike nor independent.</summary>
    /// <param name="normal">The site.</param>
    /// <param name="frames">Frames of the step.</param>
    public static float NoiseOfClass(SiteNormal normal, int frames) => (1 - normal.ClassShare) * normal.FrameDistance / MathF.Sqrt(frames);

    /// <summary>How far a step's moments lie past what chance and classes do; not positive: not at all.</summary>
    /// <param name="distance">D of the step's moments from the expected ones.</param>
    /// <param name="noise">R.</param>
    /// <param name="imbalance">min(1, 3 chi).</param>
    public static float Excess(float distance, float noise, float imbalance) => distance - ((1 + imbalance) * noise);

    /// <summary>The weight of the step's moments.</summary>
    /// <param name="excess">How far they lie past what chance and classes do; of the classes on average and of the nearest one the smaller.</param>
    /// <param name="noise">R.</param>
    /// <param name="correlation">kappa.</param>
    /// <param name="uncertainty">What the expected moments themselves lack: the site's weight over the clock.</param>
    public static float StepWeight(float excess, float noise, float correlation, float uncertainty)
    {
        var signal = Math.Max(Math.Max((1 - correlation) * uncertainty, excess), 0);
        return signal / (signal + noise);
    }

    /// <summary>By how much a frame may lie further away than nearly all normal ones do: in a stream that was normal so far a far frame is rather one of the few normal
    /// ones than another camera's.</summary>
    /// <param name="usualDistance">The stream's usual distance of a frame from the running moments; 1 where frames are normal.</param>
    /// <param name="framesBefore">Frames that showed it.</param>
    public static float FrameTolerance(float usualDistance, long framesBefore) =>
        1 + (Math.Clamp((AbnormalDistance - usualDistance) / (AbnormalDistance - NormalDistance), 0, 1) * framesBefore / (framesBefore + FramesToShow));

    /// <summary>The weight of a frame's own moments.</summary>
    /// <param name="distance">D of the frame from the expected moments; the smaller of that and its distance from its own step.</param>
    /// <param name="usual">The distance that normal frames stay below.</param>
    public static float FrameWeight(float distance, float usual)
    {
        var signal = Math.Max(0, distance - usual);
        return float.IsPositiveInfinity(signal) ? 1 : signal / (signal + 1);
    }
}
