using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;
using TtaService.Serving.Streams;
using TtaService.Serving.Streams.Loading;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IServedModels"/>
internal sealed class ServedModels(ModelCatalog models, ModelChanges changes, StepIntake intake, IOptions<ModelsOptions> options) : IServedModels
{
    public IReadOnlyList<ModelDescription> All => [.. models.All.Select(Describe)];

    public IReadOnlyList<BrokenModel> Broken => models.Broken;

    public int Changes => models.Changes;

    public Outcome<ModelDescription> Find(string name) => Outcome.Of(() => Describe(models.Find(name)));

    public Outcome<IReadOnlyList<MethodOnModel>> Methods(string model) => Outcome.Of<IReadOnlyList<MethodOnModel>>(() =>
    {
        var engine = models.Find(model).Engine.Model;
        return [.. engine.Methods.All.Select(method => Describe(engine, method))];
    });

    public Outcome<IReadOnlyList<MethodOnModel>> Filters(string model) => Outcome.Of<IReadOnlyList<MethodOnModel>>(() =>
    {
        var engine = models.Find(model).Engine.Model;
        var without = engine.StateBytes(engine.Methods.Settings("source"));
        return [.. engine.Methods.Filters.Select(filter =>
        {
            var settings = engine.Methods.Settings($"source+{filter.Name}");
            return engine.WhyUnavailable(settings) is { } unavailable
                ? new MethodOnModel(filter, unavailable, 0)
                : new MethodOnModel(filter, null, engine.StateBytes(settings) - without);
        })];
    });

    public Task<Outcome<ModelDescription>> LoadAsync(string name) => Outcome.OfAsync(async () =>
    {
        RequireAllowed();
        return Describe(await changes.LoadAsync(name).ConfigureAwait(false));
    });

    public Task<Outcome<string>> UnloadAsync(string name) => Outcome.OfAsync(async () =>
    {
        RequireAllowed();
        await changes.UnloadAsync(name).ConfigureAwait(false);
        return name;
    });

    private void RequireAllowed()
    {
        if (!options.Value.AllowChanges)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "MODEL_CHANGES_OFF",
                "explicit model load / unload is not allowed: Models:AllowChanges is false; change the repository and restart the server, or have it watched (Models:WatchEvery)"));
        }
    }

    private static MethodOnModel Describe(AdaptiveModel engine, MethodDescription method)
    {
        var settings = engine.Methods.Settings(method.Name);
        if (engine.WhyUnavailable(settings) is { } unavailable)
        {
            return new MethodOnModel(method, unavailable, 0);
        }

        try
        {
            return new MethodOnModel(method, null, engine.StateBytes(settings));
        }
        catch (MethodSettingsException fault)
        {
            // A plug-in's method; the others have nothing to do with it.
            return new MethodOnModel(method, fault.Message, 0);
        }
    }

    private ModelDescription Describe(ServedModel model)
    {
        var engine = model.Engine.Model;
        return new ModelDescription
        {
            Name = model.Name,
            Version = model.Folder.Version,
            Digest = engine.Digest,
            DefaultMethod = model.DefaultMethod,
            Preprocessing = ModelFolder.Describe(model.Preprocessing, engine),
            InputName = engine.InputName,
            InputType = engine.InputType,
            InputShape = engine.InputShape,
            Outputs = engine.Outputs,
            Scores = engine.Scores,
            Labels = model.Labels,
            Answer = engine.Answer,
            Sites = [.. engine.Sites.Select(site => new SiteDescription(site.Name, site.Kind, site.Channels))],
            MaxFramesPerStep = intake.MaxFramesPerStep(model),
        };
    }
}
