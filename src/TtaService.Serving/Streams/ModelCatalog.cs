using TtaService.Serving.Models;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams;

/// <summary>The models that are served, by name, each on one device or more. Filled while the host starts.</summary>
internal sealed class ModelCatalog : IAsyncDisposable
{
    // A device that is fuller by so little counts as alike, and those take turns: streams that open at once spread, though none of them is resident yet.
    private const double AlikeShare = 0.125;
    private const double AlikeArenaShare = 1.0 / 256;

    private readonly SortedDictionary<string, ServedModel[]> _models = new(StringComparer.Ordinal);
    private uint _placed;

    /// <summary>Every model once, on its first device.</summary>
    public IReadOnlyCollection<ServedModel> All { get; private set; } = [];

    /// <summary>Every model on every device.</summary>
    public IReadOnlyCollection<ServedModel> Engines { get; private set; } = [];

    /// <summary>The models of the repository that are not served, in the order of their names.</summary>
    public IReadOnlyList<BrokenModel> Broken { get; private set; } = [];

    /// <summary>Notes a model that can't be served.</summary>
    public void Add(BrokenModel model) => Broken = [.. Broken.Append(model).OrderBy(broken => broken.Name, StringComparer.Ordinal)];

    /// <summary>Adds a model on a further device.</summary>
    public void Add(ServedModel model)
    {
        _models[model.Name] = [.. _models.GetValueOrDefault(model.Name, []), model];
        All = [.. _models.Values.Select(engines => engines[0])];
        Engines = [.. _models.Values.SelectMany(engines => engines)];
    }

    /// <summary>The model of this name on its first device; the empty name is the only model's, and nobody's where another one is broken: its streams must not come to a stranger.</summary>
    public ServedModel Find(string name) => Named(name)[0];

    /// <summary>The model of this name on the device that holds the least state.</summary>
    public ServedModel Place(string name)
    {
        var engines = Named(name);
        if (engines.Length == 1)
        {
            return engines[0];
        }

        // Read once: they move meanwhile.
        var bytes = Array.ConvertAll(engines, engine => engine.Engine.Model.ResidentBytes);
        var most = ((1 + AlikeShare) * bytes.Min()) + (AlikeArenaShare * engines[0].Engine.Model.ArenaBytes);
        var open = engines.Where((_, i) => bytes[i] <= most).ToArray();
        return open[(Interlocked.Increment(ref _placed) - 1) % open.Length];
    }

    /// <summary>The model that a checkpoint belongs to: the one of its name, which the digest checks; where that is not served, one of the same file. Else why there is none.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="wanted">The model that is asked for, which decides between several of one file for a checkpoint without a name; empty for any.</param>
    public (ServedModel? Model, string Foreign) Of(CheckpointDescription checkpoint, string wanted)
    {
        if (_models.TryGetValue(checkpoint.ModelName, out var named))
        {
            return named[0].Engine.Model.Digest == checkpoint.Model
                ? (named[0], string.Empty)
                : (null, $"it was made with another file of model '{checkpoint.ModelName}': {checkpoint.Model}, which is now {named[0].Engine.Model.Digest}");
        }

        var alike = All.Where(model => model.Engine.Model.Digest == checkpoint.Model).ToList();
        return (alike.Find(model => model.Name == wanted) ?? alike.FirstOrDefault(), $"it belongs to model {checkpoint.ModelName}{(checkpoint.ModelName.Length > 0 ? ", " : string.Empty)}{checkpoint.Model}, which is not served here");
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
            return _models.Count == 1 && Broken.Count == 0
                ? _models.Values.First()
                : throw new FailureException(Failure.Invalid("MODEL_MISSING", "model", $"name a model, there are {_models.Count + Broken.Count}: {string.Join(", ", _models.Keys.Concat(Broken.Select(broken => broken.Name)).Order(StringComparer.Ordinal))}"));
        }

        if (_models.TryGetValue(name, out var engines))
        {
            return engines;
        }

        throw Broken.FirstOrDefault(broken => broken.Name == name) is { } known
            ? new FailureException(new Failure(FailureKind.FailedPrecondition, "MODEL_BROKEN", $"model '{name}' can't be served: {known.Reason}") { Field = "model" })
            : new FailureException(new Failure(FailureKind.NotFound, "MODEL_NOT_FOUND", $"model '{(name.Length <= 128 ? name : name[..128] + "…")}' does not exist; there is {Names()}") { Field = "model" });
    }

    private string Names() => _models.Count == 0 ? "none" : string.Join(", ", _models.Keys);
}
