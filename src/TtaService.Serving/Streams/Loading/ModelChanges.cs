using Microsoft.Extensions.Options;
using TtaService.Engine.Onnx;
using TtaService.Serving.Models;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Loads, replaces and unloads models while the service runs, one change at a time. What serves goes on until the new is loaded and warmed up, and when that
/// fails. Thread-safe.</summary>
internal sealed partial class ModelChanges(
    ModelCatalog catalog,
    ModelLoader loader,
    ModelRetirement retirement,
    IOptions<ModelsOptions> options,
    ILogger<ModelChanges> logger) : IDisposable
{
    private readonly SemaphoreSlim _changing = new(1);

    /// <summary>Loads a model as its folder is now; it takes over from the one before, whose streams move as <see cref="ModelsOptions.ReplacedStreams"/> says.</summary>
    /// <exception cref="FailureException">There is no such folder, or what lies there can't be served; the one before goes on.</exception>
    public async Task<ServedModel> LoadAsync(string name)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            var loaded = await loader.LoadAsync(Read(name)).ConfigureAwait(false);
            var before = catalog.Put(loaded);
            if (before.Count > 0)
            {
                Log.ModelReplaced(logger, name, before[0].Engine.Model.Digest, loaded[0].Engine.Model.Digest);
                retirement.Begin(before, Failure.Replaced(name), options.Value.ReplacedStreams == ReplacedStreams.Drain);
            }

            return loaded[0];
        }
        catch (ModelRefusedException refused)
        {
            throw Refuse(refused.Model);
        }
        finally
        {
            _changing.Release();
        }
    }

    /// <summary>Serves a model no more: its streams are saved, and the calls that have them open end.</summary>
    /// <exception cref="FailureException">No model of this name is served.</exception>
    public async Task UnloadAsync(string name)
    {
        await _changing.WaitAsync().ConfigureAwait(false);
        try
        {
            if (!catalog.Serves(name))
            {
                // One that is broken is forgotten, one that does not exist is told.
                _ = catalog.Broken.Any(broken => broken.Name == name) ? null : catalog.Find(name);
            }

            var before = catalog.Remove(name);
            if (before.Count > 0)
            {
                Log.ModelUnloaded(logger, name);
                retirement.Begin(before, Failure.ModelUnloaded(name), drain: false);
            }
        }
        finally
        {
            _changing.Release();
        }
    }

    public void Dispose() => _changing.Dispose();

    private ModelFolder Read(string name)
    {
        var path = Path.GetFullPath(options.Value.Path);
        try
        {
            return ModelRepository.Read(path, name) ?? throw new FailureException(new Failure(
                FailureKind.NotFound,
                "MODEL_NOT_FOUND",
                $"the model repository has no folder '{Engine.ForeignText.Clip(name)}'; put one with model.onnx there first")
            { Field = "model" });
        }
        catch (ModelLoadException wrong)
        {
            throw Refuse(BrokenModel.From(name, wrong));
        }
    }

    private FailureException Refuse(BrokenModel broken)
    {
        catalog.Add(broken);
        var goesOn = catalog.Serves(broken.Name);
        Log.ModelRefused(logger, broken.Name, goesOn ? "the one before goes on" : "it is not served", broken.Reason);
        return new FailureException(new Failure(
            FailureKind.FailedPrecondition,
            "MODEL_BROKEN",
            $"model '{broken.Name}' can't be served{(goesOn ? ", the one before goes on" : string.Empty)}: {broken.Reason}")
        { Field = "model" });
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 33, Level = LogLevel.Information, Message = "ModelReplaced {Model}: {Before} by {Digest}")]
        public static partial void ModelReplaced(ILogger logger, string model, string before, string digest);

        [LoggerMessage(EventId = 34, Level = LogLevel.Information, Message = "ModelUnloaded {Model}")]
        public static partial void ModelUnloaded(ILogger logger, string model);

        [LoggerMessage(EventId = 35, Level = LogLevel.Warning, Message = "ModelRefused {Model}, {Outcome}: {Reason}")]
        public static partial void ModelRefused(ILogger logger, string model, string outcome, string reason);
    }
}
