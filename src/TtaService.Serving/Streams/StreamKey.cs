namespace TtaService.Serving.Streams;

/// <summary>Which stream it is, over all models. There is one tenant so far, the empty one; whoever adds tenants adds them here.</summary>
public readonly record struct StreamKey
{
    private readonly string? _tenant;
    private readonly string? _name;

    private StreamKey(string tenant, string name) => (_tenant, _name) = (tenant, name);

    /// <summary>Whose it is.</summary>
    public string Tenant => _tenant ?? string.Empty;

    /// <summary>What its tenant calls it; empty for the stream of a single step, which nobody can find.</summary>
    public string Name => _name ?? string.Empty;

    /// <summary>A single word that no other stream has, for stores.</summary>
    public string Word => Tenant.Length == 0 ? Name : $"{Tenant}/{Name}";

    /// <summary>The stream that a client names.</summary>
    /// <param name="name">What it said.</param>
    /// <param name="field">Where it said so.</param>
    /// <exception cref="FailureException">No stream may be called this.</exception>
    public static StreamKey Checked(string name, string field)
    {
        if (!StreamNames.IsName(name))
        {
            var shown = name.Length is 0 or > StreamNames.MaxLength ? string.Empty : $" and is '{name}'";
            var rule = $"a stream's name has 1 to {StreamNames.MaxLength} characters of A-Z a-z 0-9 _ . : -";
            throw new FailureException(Failure.Invalid("STREAM_NAME_INVALID", field, $"{rule}; this one has {name.Length}{shown}"));
        }

        return Of(name);
    }

    /// <summary>For a name that is only looked up: one that no stream may have finds none.</summary>
    public static StreamKey Of(string name) => new(string.Empty, name);

    /// <summary>For people.</summary>
    public override string ToString() => Word;
}
