using System.CommandLine;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Loading;

namespace TtaService.Host.Commands;

/// <summary>A model as the user named it: an .onnx file, a model folder, or a name in the model repository.</summary>
/// <param name="OnnxPath">The model file.</param>
/// <param name="Folder">Its model folder; null for an .onnx file that is in none.</param>
/// <param name="Methods">The methods that it is loaded with.</param>
internal sealed record ModelLocation(string OnnxPath, ModelFolder? Folder, MethodRegistry Methods)
{
    /// <summary>As its folder says.</summary>
    public AdaptiveModelOptions LoadOptions => (Folder?.LoadOptions ?? new()) with { OwnsProcess = true, Methods = Methods };

    /// <summary>Loads it and decides, with a first pass, what its outputs are, as the server does.</summary>
    /// <exception cref="ModelLoadException">It can't be served.</exception>
    public AdaptiveModel Load(AdaptiveModelOptions options)
    {
        var model = AdaptiveModel.Load(OnnxPath, options);
        try
        {
            model.Settle(WarmUp.Frames(new FramePipeline((Folder ?? ModelFolder.Of(OnnxPath)).Preprocessing(model), new FrameOptions()), model.ClipFrames));
            return model;
        }
        catch (Exception failure)
        {
            model.Dispose();
            throw failure is ModelLoadException or OutOfMemoryException
                ? failure
                : new ModelLoadException($"{OnnxPath} can't be served: {BrokenModel.From(string.Empty, failure).Reason}", failure);
        }
    }

    /// <summary>Refuses a model of clips, for what runs over labelled images.</summary>
    /// <exception cref="CommandException">It takes clips.</exception>
    public static void RequireImages(AdaptiveModel model, string instead)
    {
        if (model.ClipFrames > 1)
        {
            throw new CommandException($"the model takes clips of {model.ClipFrames} frames, and labelled data are single images; {instead}");
        }
    }

    public static Option<string?> RepositoryOption() =>
        new("--models") { Description = "The model repository, a folder with a folder a model; ./models when not given, or the one that comes with tta.", HelpName = "DIR" };

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

    /// <param name="model">As the user named it.</param>
    /// <param name="repository">The model repository; null for the usual one.</param>
    /// <param name="methods">The methods that it is loaded with; null for those of the settings.</param>
    /// <exception cref="CommandException">There is no such model.</exception>
    public static ModelLocation Resolve(string model, string? repository, MethodRegistry? methods = null)
    {
        methods ??= KnownMethods.OfSettings();
        if (File.Exists(model))
        {
            var beside = Path.GetDirectoryName(Path.GetFullPath(model))!;
            return new(model, Path.GetFileName(model) == "model.onnx" ? ModelFolder.Read(beside) : null, methods);
        }

        foreach (var folder in new[] { model, Path.Combine(repository ?? DefaultRepository(), model) })
        {
            if (File.Exists(Path.Combine(folder, "model.onnx")))
            {
                var read = ModelFolder.Read(folder);
                return new(read.OnnxPath, read, methods);
            }
        }

        throw CommandException.WrongUse($"'{model}' is no .onnx file, no folder with a model.onnx, and no model in {repository ?? DefaultRepository()}");
    }
}
