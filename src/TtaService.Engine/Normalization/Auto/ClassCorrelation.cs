namespace TtaService.Engine.Normalization.Auto;

/// <summary>kappa: how alike the classes of consecutive frames are, 0 (independent) to 1 (one class). 1 until the stream shows otherwise.</summary>
internal static class ClassCorrelation
{
    /// <summary>Fewest frames of a first step that say something about their own classes.</summary>
    public const int LeastFrames = 8;

    private const float Doubt = 8;
    public const float LeastShare = 0.1f;
    public const float LeastInStep = 0.1f;

    /// <summary>From the temporal filter: about 20 frames against persistence show that consecutive classes are independent.</summary>
    public static float FromEvidence(float largest) => Math.Clamp((largest + Doubt) / (Doubt / 2), 0, 1);

    /// <summary>From a first step: frames of one class differ less from each other than frames do.</summary>
    /// <param name="variety">Variance of the step's frame means over the calibrated one.</param>
    /// <param name="classShare">Share of the latter that classes explain.</param>
    public static float InFirstStep(float variety, float classShare) => Math.Clamp((1 - variety) / Math.Max(classShare, LeastShare), LeastInStep, 1);
}
