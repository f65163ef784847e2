using System.CommandLine;
using TtaService.Engine.Execution;

namespace TtaService.Host.Commands;

/// <summary>A model as the user named it: an .onnx file, a model folder, or a name in the model repository.</summary>
internal sealed record ModelLocation(string OnnxPath)
{
    public AdaptiveModelOptions LoadOptions { get; init; } = new();

    public static Option<string?> RepositoryOption() => new("--models") { Description = "The model repository: a folder with a folder a model.", HelpName = "DIR" };

    public static ModelLocation Resolve(string model, string? repository)
    {
        _ = repository;
        return new(model);
    }
}
