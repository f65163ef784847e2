using TtaService.Engine.Normalization;

namespace TtaService.Serving.Streams;

/// <summary>What requests for streams come to, and why they are refused.</summary>
internal static class StreamRequestRules
{
    /// <summary>Refuses a request for another model, method or seed than the stream has.</summary>
    public static void RequireSame(StreamSession session, StreamRequest request)
    {
        if (request.Model.Length > 0 && request.Model != session.Model.Name)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "STREAM_OF_ANOTHER_MODEL",
                $"stream '{session.Name}' belongs to model '{session.Model.Name}', not '{request.Model}'; "
                    + "use another stream name, or delete the stream first")
            { Field = $"{request.Root}.model" });
        }

        if (request.Mode == ResumeMode.Reset)
        {
            return;
        }

        if (request.Method is { } choice && !Choose(session.Model, choice, request.Root).Equals(session.Method))
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "STREAM_OF_ANOTHER_METHOD",
                $"stream '{session.Name}' runs {session.Method.Name} {session.Method.Hyperparameters.ToJsonString()}, which differs from what is asked for; "
                    + "open it with RESUME_POLICY_RESET to change the method, or leave the method out")
            { Field = $"{request.Root}.method" });
        }

        if (request.Seed is { } seed && seed != session.Seed)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "STREAM_OF_ANOTHER_SEED",
                $"stream '{session.Name}' has seed {session.Seed}, not {seed}; open it with RESUME_POLICY_RESET to change the seed, "
                    + "or leave the seed out")
            { Field = $"{request.Root}.seed" });
        }
    }

    /// <summary>The settings of a stream that begins.</summary>
    public static StreamSettings Settings(StreamRequest request)
    {
        var defaults = new StreamSettings();
        return new StreamSettings
        {
            Frozen = request.Freeze ?? defaults.Frozen,
            MaxCoalesce = request.MaxCoalesce ?? defaults.MaxCoalesce,
            Labels = request.Labels ?? defaults.Labels,
            Pinned = request.Pinned,
        };
    }

    /// <summary>The model and the method that a stream begins with.</summary>
    public static (ServedModel Model, MethodSettings Method) Resolve(ModelCatalog models, StreamRequest request)
    {
        var model = models.Place(request.Model);
        var method = request.Method is { } choice ? Choose(model, choice, request.Root) : model.DefaultMethod;
        return WhyUnavailable(model, method) is { } reason
            ? throw new FailureException(Unavailable(model, $"can't run {method.Name}: {reason}") with { Field = $"{request.Root}.method" })
            : (model, method);
    }

    /// <summary>A method that a model can't run.</summary>
    public static Failure Unavailable(ServedModel model, string why) => new(FailureKind.FailedPrecondition, "METHOD_UNAVAILABLE", $"model '{model.Name}' {why}");

    private static string? WhyUnavailable(ServedModel model, MethodSettings method)
    {
        try
        {
            if (model.Engine.Model.WhyUnavailable(method) is { } reason)
            {
                return reason;
            }

            // A plug-in's method may fail here for the first time.
            model.Engine.Model.StateBytes(method);
            return null;
        }
        catch (MethodSettingsException fault)
        {
            return fault.Message;
        }
    }

    private static MethodSettings Choose(ServedModel model, MethodChoice choice, string root)
    {
        try
        {
            return model.Engine.Model.Methods.Settings(choice.Name.Length > 0 ? choice.Name : model.DefaultMethod.Name, choice.Hyperparameters);
        }
        catch (MethodSettingsException refused)
        {
            throw new FailureException(Failure.Invalid("METHOD_INVALID", $"{root}.method", refused.Message));
        }
    }
}
