using System.Text.Json.Nodes;

namespace TtaService.Serving.Streams;

/// <summary>A method as a client names it.</summary>
/// <param name="Name">Empty for the model's default.</param>
/// <param name="Hyperparameters">Those that differ from the defaults; null for none.</param>
public sealed record MethodChoice(string Name, JsonObject? Hyperparameters);

/// <summary>What a client asks for when it opens or creates a stream.</summary>
public sealed record StreamRequest
{
    /// <summary>Which; none for a stream that belongs to one step.</summary>
    public required StreamKey Key { get; init; }

    /// <summary>Empty for the only model, or the stream's own.</summary>
    public string Model { get; init; } = string.Empty;

    /// <summary>Null for the model's default, or the stream's own.</summary>
    public MethodChoice? Method { get; init; }

    /// <summary>Seeds what the method draws at random; null for 0, or the stream's own.</summary>
    public ulong? Seed { get; init; }

    /// <summary>Use the state, do not update it; null for no, or as it is set.</summary>
    public bool? Freeze { get; init; }

    /// <summary>Waiting steps that may be joined into one; null for 1, or as it is set.</summary>
    public int? MaxCoalesce { get; init; }

    /// <summary>The user's own words, for a stream that begins.</summary>
    public IReadOnlyDictionary<string, string>? Labels { get; init; }

    /// <summary>Stays in memory, whoever else needs the place; for a stream that begins.</summary>
    public bool Pinned { get; init; }

    /// <summary>What to do with a stream that exists already, or does not.</summary>
    public ResumeMode Mode { get; init; }

    /// <summary>Who asks, as far as the network tells: its address without the port. Empty for unknown.</summary>
    public string Client { get; init; } = string.Empty;

    /// <summary>The request's field that says all this, for refusals.</summary>
    public string Root { get; init; } = "open";
}

/// <summary>What to do with a stream that exists already, or does not.</summary>
public enum ResumeMode
{
    /// <summary>Continue it, or create it.</summary>
    ContinueOrCreate,

    /// <summary>Continue it; refused when there is none.</summary>
    MustExist,

    /// <summary>Create it; refused when there is one.</summary>
    MustCreate,

    /// <summary>Begin it anew, also when it exists.</summary>
    Reset,
}
