using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IServedModels"/>
internal sealed class ServedModels(ModelCatalog models, StepIntake intake) : IServedModels
{
    public IReadOnlyList<ModelDescription> All => [.. models.All.Select(Describe)];

    public IReadOnlyList<BrokenModel> Broken => models.Broken;

    public Outcome<ModelDescription> Find(string name) => Outcome.Of(() => Describe(models.Find(name)));

    public Outcome<IReadOnlyList<MethodOnModel>> Methods(string model) => Outcome.Of<IReadOnlyList<MethodOnModel>>(() =>
    {
        var engine = models.Find(model).Engine.Model;
        return [.. engine.Methods.All.Select(method => Describe(engine, method))];
    });

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
