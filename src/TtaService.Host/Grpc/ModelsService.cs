using Grpc.Core;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;
using TtaService.Serving.Streams;
using TtaService.V1;
using NormalizationSite = TtaService.V1.NormalizationSite;

namespace TtaService.Host.Grpc;

/// <summary>The models that are served and what their streams can ask for.</summary>
internal sealed class ModelsService(ModelCatalog models) : V1.ModelsService.ModelsServiceBase
{
    public override Task<ListModelsResponse> ListModels(ListModelsRequest request, ServerCallContext context)
    {
        var response = new ListModelsResponse();
        response.Models.AddRange(models.All.Select(Summarize));
        response.Models.AddRange(models.Broken.Select(broken => new Model { Name = broken.Name, UnavailableReason = broken.Reason }));
        return Task.FromResult(response);
    }

    public override Task<Model> GetModel(GetModelRequest request, ServerCallContext context)
    {
        var model = models.Find(request.Name);
        var wire = Summarize(model);
        wire.Sites.AddRange(model.Engine.Model.Sites.Select(site => new NormalizationSite { Name = site.Name, Channels = site.Channels, Kind = $"{site.Kind}".ToLowerInvariant() }));
        wire.Methods.AddRange(NormalizationMethods.All.Select(method => Describe(model, method)));
        return Task.FromResult(wire);
    }

    private static Model Summarize(ServedModel model)
    {
        var engine = model.Engine.Model;
        var wire = new Model
        {
            Name = model.Name,
            Digest = engine.Digest,
            DefaultMethod = Replies.ToWire(model.DefaultMethod),
            Preprocessing = Replies.ToWire(ModelFolder.Describe(model.Preprocessing, engine)),
            InputType = engine.InputType,
            SiteChannels = engine.Sites.Sum(site => (long)site.Channels),
        };
        wire.InputShape.AddRange(engine.InputShape);
        wire.OutputNames.AddRange(engine.OutputNames);
        wire.Outputs.AddRange(engine.Outputs.Select(Describe));
        if (engine.Scores is { } scores)
        {
            wire.PredictionOutput = scores.Index;
        }

        wire.Labels.AddRange(model.Folder.Labels);
        return wire;
    }

    private static V1.ModelOutput Describe(Engine.Execution.ModelOutput output)
    {
        // The wire counts from its own zero, and names the kinds alike.
        var wire = new V1.ModelOutput { Name = output.Name, Kind = Enum.Parse<V1.OutputKind>($"{output.Kind}"), Reason = output.Reason };
        wire.Shape.AddRange(output.Shape);
        return wire;
    }

    private static ModelMethod Describe(ServedModel model, MethodDescription method)
    {
        var settings = MethodSettings.Create(method.Name);
        var unavailable = model.Engine.Model.WhyUnavailable(settings);
        var wire = new ModelMethod
        {
            Name = method.Name,
            Summary = method.Summary,
            Source = method.Source,
            Available = unavailable is null,
            UnavailableReason = unavailable ?? string.Empty,
            StateBytes = unavailable is null ? model.Engine.Model.StateBytes(settings) : 0,
        };
        foreach (var hyperparameter in method.Hyperparameters)
        {
            wire.Hyperparameters.Add(new Hyperparameter { Name = hyperparameter.Name, Summary = hyperparameter.Summary, DefaultValue = hyperparameter.Default, Range = hyperparameter.Range });
        }

        return wire;
    }
}
