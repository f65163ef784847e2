namespace TtaService.Engine.Tests.Evaluation;

/// <summary>The demo model and its labelled sample, as they lie in deploy/.</summary>
internal static class Repository
{
    public static string Model { get; } = Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist", "model.onnx");

    public static string Sample { get; } = Path.Combine(AppContext.BaseDirectory, "models", "fashion-mnist", "sample");
}
