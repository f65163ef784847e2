using System.Text.Json.Nodes;

namespace TtaService.Serving.Streams;

/// <summary>A method as a client names it; empty name for the model's default.</summary>
internal sealed record MethodChoice(string Name, JsonObject? Hyperparameters);

/// <summary>What a client asks for when it opens or creates a stream.</summary>
internal sealed record StreamRequest
{
    /// <summary>Which; none for a stream that belongs to one step.</summary>
    public required StreamKey Key { get; init; }

    /// <summary>Empty for the only model, or the stream's own.</summary>
    public string Model { get; init; } = string.Empty;

    /// <summary>Null for the model's default, or the stream's own.</summary>
    public MethodChoice? Method { get; init; }

    public ulong? Seed { get; init; }

    public bool? Freeze { get; init; }

    public int? MaxCoalesce { get; init; }

    public IReadOnlyDictionary<string, string>? Labels { get; init; }

    public bool Pinned { get; init; }

    public ResumeMode Mode { get; init; }

    /// <summary>Who asks, as far as the network tells: its address without the port. Empty for unknown.</summary>
    public string Client { get; init; } = string.Empty;

    /// <summary>The request's field that says all this, for refusals.</summary>
    public string Root { get; init; } = "open";
}

/// <summary>What to do with a stream that exists already, or does not.</summary>
internal enum ResumeMode
{
    ContinueOrCreate,
    MustExist,
    MustCreate,
    Reset,
}
