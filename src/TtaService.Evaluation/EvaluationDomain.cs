namespace TtaService.Evaluation;

/// <summary>What the camera of a test sees: the images as they are, or corrupted.</summary>
/// <param name="Corruption">Null for clean images.</param>
/// <param name="Severity">1 to 5.</param>
public sealed record EvaluationDomain(Corruption? Corruption, int Severity)
{
    /// <summary>The corruption's name, or <c>clean</c>.</summary>
    public string Name => Corruption?.Name ?? "clean";
}

/// <summary>One frame of a test stream.</summary>
/// <param name="Domain">Index of its domain.</param>
/// <param name="Image">Index of its image.</param>
public readonly record struct EvaluationSample(int Domain, int Image);
