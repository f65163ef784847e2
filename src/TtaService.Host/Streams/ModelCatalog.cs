namespace TtaService.Host.Streams;

/// <summary>The models that are served, by name, each on one device or more. Filled while the host starts.</summary>
internal sealed class ModelCatalog : IAsyncDisposable
{
    // A little fuller counts as alike: streams that open at once then spread, though none is resident yet.
    private const double Alike = 1.125;

    private readonly SortedDictionary<string, ServedModel[]> _models = new(StringComparer.Ordinal);
    private uint _placed;

    /// <summary>Every model once, on its first device.</summary>
    public IReadOnlyCollection<ServedModel> All { get; private set; } = [];

    /// <summary>Every model on every device.</summary>
    public IReadOnlyCollection<ServedModel> Engines { get; private set; } = [];

    /// <summary>Adds a model on a further device.</summary>
    public void Add(ServedModel model)
    {
        _models[model.Name] = [.. _models.GetValueOrDefault(model.Name, []), model];
        All = [.. _models.Values.Select(engines => engines[0])];
        Engines = [.. _models.Values.SelectMany(engines => engines)];
    }

    /// <summary>The model of this name on its first device; the empty name is the only model's.</summary>
    public ServedModel Find(string name) => Named(name)[0];

    /// <summary>The model of this name on the device that holds the least state.</summary>
    public ServedModel Place(string name)
    {
        var engines = Named(name);
        if (engines.Length == 1)
        {
            return engines[0];
        }

        var least = engines.Min(engine => engine.Engine.Model.ResidentBytes);
        var open = Array.FindAll(engines, engine => engine.Engine.Model.ResidentBytes <= Alike * least);
        return open[(Interlocked.Increment(ref _placed) - 1) % open.Length];
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var model in Engines)
        {
            await model.DisposeAsync().ConfigureAwait(false);
        }

        (All, Engines) = ([], []);
        _models.Clear();
    }

    private ServedModel[] Named(string name)
    {
        if (name.Length == 0)
        {
            return _models.Count == 1
                ? _models.Values.First()
                : throw new FailureException(Failure.Invalid("MODEL_MISSING", "model", $"name a model, there are {_models.Count}: {Names()}"));
        }

        return _models.TryGetValue(name, out var engines)
            ? engines
            : throw new FailureException(new Failure(FailureKind.NotFound, "MODEL_NOT_FOUND", $"model '{(name.Length <= 128 ? name : name[..128] + "…")}' does not exist; there is {Names()}") { Field = "model" });
    }

    private string Names() => _models.Count == 0 ? "none" : string.Join(", ", _models.Keys);
}
