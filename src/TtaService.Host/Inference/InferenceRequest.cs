namespace TtaService.Host.Inference;

/// <summary>An output that the client asks for.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Classes">The most probable classes instead of the values; 0 for the values.</param>
internal readonly record struct RequestedOutput(string Name, int Classes);

/// <summary>A request of the Open Inference Protocol, whatever it came on.</summary>
internal sealed record InferenceRequest
{
    public required string Model { get; init; }

    /// <summary>Empty for the one that is served.</summary>
    public string Version { get; init; } = string.Empty;

    /// <summary>The client's own; comes back.</summary>
    public string Id { get; init; } = string.Empty;

    public required RequestParameters Parameters { get; init; }

    public required IReadOnlyList<Tensor> Inputs { get; init; }

    /// <summary>Empty for all.</summary>
    public IReadOnlyList<RequestedOutput> Outputs { get; init; } = [];

    /// <summary>Who asks, as far as the network tells; empty for unknown.</summary>
    public string Client { get; init; } = string.Empty;
}

/// <summary>A response: a request has one, of a decoupled model any number.</summary>
internal sealed record InferenceResponse
{
    /// <summary>Of the model that gave it.</summary>
    public string Version { get; init; } = InferenceModels.OnlyVersion;

    public required IReadOnlyList<Tensor> Outputs { get; init; }

    /// <summary>Bool, long, double or string.</summary>
    public IReadOnlyDictionary<string, object> Parameters { get; init; } = new Dictionary<string, object>();
}
