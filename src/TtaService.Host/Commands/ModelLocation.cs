using System.CommandLine;
using TtaService.Engine.Execution;

namespace TtaService.Host.Commands;

/// <summary>A model as the user named it: an .onnx file, a model folder, or a name in the model repository.</summary>
internal sealed record ModelLocation(string OnnxPath)
{
    public AdaptiveModelOptions LoadOptions { get; init; } = new();

    public static Option<string?> RepositoryOption() => new("--models") { Description = "The model repository, a folder with a folder a model; ./models when not given, or the one that comes with tta.", HelpName = "DIR" };

    /// <summary>The repository that is used when the user names none: ./models, or the one beside the program.</summary>
    public static string DefaultRepository() => Directory.Exists(RepositoryFolder) ? RepositoryFolder : BuiltInRepository;

    /// <summary>Lets a server without a repository of its own serve the one that comes with the program.</summary>
    public static void UseBuiltInRepository(WebApplicationBuilder builder)
    {
        if (builder.Configuration["Models:Path"] is RepositoryFolder && !Directory.Exists(RepositoryFolder))
        {
            builder.Configuration["Models:Path"] = BuiltInRepository;
        }
    }

    private const string RepositoryFolder = "models";

    private static string BuiltInRepository => Path.Combine(AppContext.BaseDirectory, RepositoryFolder);

    public static ModelLocation Resolve(string model, string? repository)
    {
        _ = repository;
        return new(model);
    }
}
