namespace TtaService.Engine.Normalization.Auto;

/// <summary>gamma: how far predictions are believed, 1 near the source and 0 under a strong shift, where a model may see one class everywhere.</summary>
internal static class CompositionTrust
{
    private const float Scale = 3;
    private const float VarietyCut = 0.6f;
    private const float UsualClassDistance = 0.45f;
    private const float LeastClassDistance = 0.3f;

    // One frame's largest part of the variety.
    private const float FrameLimit = 2;

    /// <summary>A site's distance from the source in units of what classes alone do there.</summary>
    public static float InClassUnits(float distance, float classDistance) => distance / (Math.Max(classDistance, LeastClassDistance) / UsualClassDistance);

    /// <summary>How much a frame differs from its stream, in units of how frames do, bounded.</summary>
    public static float FrameVariety(float squares) => Math.Min(FrameLimit, squares);

    /// <summary>v: whether the frames vary as much as frames of all classes do, 0 to 1. Then a shift is the camera's, and predictions are believed less.</summary>
    /// <param name="variety">u: mean variety over sites.</param>
    /// <param name="classShare">Mean share of the classes in it.</param>
    public static float Variety(float variety, float classShare) => Math.Clamp((variety - 1 + (0.85f * classShare)) / Math.Max(0.17f * classShare, 1e-3f), 0, 1);

    /// <param name="distance">Mean of the two sites that are furthest from the source, in class units.</param>
    /// <param name="variety">v.</param>
    public static float Of(float distance, float variety)
    {
        var ratio = distance / (Scale * (1 - (VarietyCut * variety)));
        return 1 / (1 + (ratio * ratio * ratio * ratio));
    }
}
