using TtaService.Serving.Front;
using TtaService.V1;
using NormalizationSite = TtaService.V1.NormalizationSite;

namespace TtaService.Host.Grpc;

/// <summary>The models that are served, put on the wire.</summary>
internal static class ModelReplies
{
    /// <summary>Those that are served, then those that can't be; without sites and methods.</summary>
    public static ListModelsResponse All(IServedModels models)
    {
        var response = new ListModelsResponse();
        response.Models.AddRange(models.All.Select(ToWire));
        response.Models.AddRange(models.Broken.Select(broken => new Model { Name = broken.Name, UnavailableReason = broken.Reason }));
        return response;
    }

    /// <summary>One, with sites and methods.</summary>
    public static Model Whole(IServedModels models, ModelDescription model)
    {
        var wire = ToWire(model);
        wire.Sites.AddRange(model.Sites.Select(site => new NormalizationSite { Name = site.Name, Channels = site.Channels, Kind = $"{site.Kind}".ToLowerInvariant() }));
        wire.Methods.AddRange(models.Methods(model.Name).OrThrow().Select(ToWire));
        wire.Filters.AddRange(models.Filters(model.Name).OrThrow().Select(ToWire));
        return wire;
    }

    private static Model ToWire(ModelDescription model)
    {
        var wire = new Model
        {
            Name = model.Name,
            Digest = model.Digest,
            Version = model.Version,
            DefaultMethod = Replies.ToWire(model.DefaultMethod),
            Preprocessing = Replies.ToWire(model.Preprocessing),
            InputType = model.InputType,
            Answer = Enum.Parse<AnswerKind>($"{model.Answer.Kind}"),
            AnswerReason = model.Answer.Reason,
            SiteChannels = model.Sites.Sum(site => (long)site.Channels),
        };
        wire.InputShape.AddRange(model.InputShape);
        wire.OutputNames.AddRange(model.Outputs.Select(output => output.Name));
        wire.Outputs.AddRange(model.Outputs.Select(ToWire));
        if (model.Scores is { } scores)
        {
            wire.PredictionOutput = scores.Index;
        }

        wire.Labels.AddRange(model.Labels);
        return wire;
    }

    private static V1.ModelOutput ToWire(Engine.Execution.ModelOutput output)
    {
        // The wire counts from its own zero, and names the kinds alike.
        var wire = new V1.ModelOutput { Name = output.Name, Kind = Enum.Parse<V1.OutputKind>($"{output.Kind}"), Reason = output.Reason };
        wire.Shape.AddRange(output.Shape);
        return wire;
    }

    private static ModelMethod ToWire(MethodOnModel on)
    {
        var wire = new ModelMethod
        {
            Name = on.Method.Name,
            Summary = on.Method.Summary,
            Source = on.Method.Source,
            Available = on.WhyUnavailable is null,
            UnavailableReason = on.WhyUnavailable ?? string.Empty,
            StateBytes = on.StateBytes,
        };
        foreach (var hyperparameter in on.Method.Hyperparameters)
        {
            wire.Hyperparameters.Add(new Hyperparameter
            {
                Name = hyperparameter.Name,
                Summary = hyperparameter.Summary,
                DefaultValue = hyperparameter.Default,
                Range = hyperparameter.Range,
            });
        }

        return wire;
    }
}
