using System.Collections.Immutable;
using TtaService.Serving.Models;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams;

/// <summary>The models that are served, by name, each on one device or more; and those that were replaced and still have streams. Thread-safe.</summary>
internal sealed class ModelCatalog : IAsyncDisposable
{
    // A device that is fuller by so little counts as alike, and those take turns: streams that open at once spread, though none of them is resident yet.
    private const double AlikeShare = 0.125;
    private const double AlikeArenaShare = 1.0 / 256;

    private readonly Lock _gate = new();

    // Whole at any moment: who reads it holds no lock.
    private volatile Content _content = Content.Empty;
    private uint _placed;
    private int _changes;

    /// <summary>Every model once, on its first device.</summary>
    public IReadOnlyCollection<ServedModel> All => _content.All;

    /// <summary>Every model on every device, with those that were replaced and still have streams.</summary>
    public IReadOnlyCollection<ServedModel> Engines => _content.Engines;

    /// <summary>What the repository holds and is not served, in the order of their names; a model that goes on as it was before its files changed is among them, too.</summary>
    public IReadOnlyList<BrokenModel> Broken => _content.Broken;

    /// <summary>Rises with every change.</summary>
    public int Changes => Volatile.Read(ref _changes);

    /// <summary>Whether a model of this name is served.</summary>
    public bool Serves(string name) => _content.Models.ContainsKey(name);

    /// <summary>Notes a model that can't be served; one of its name that is served goes on.</summary>
    public void Add(BrokenModel model) => Change(content => new Content(
        content.Models,
        [.. content.WithoutBroken(model.Name).Append(model).OrderBy(broken => broken.Name, StringComparer.Ordinal)],
        content.Retired));

    /// <summary>Serves a model from here on, on one device or more.</summary>
    /// <returns>What served under its name so far and has its streams still; <see cref="TryForget"/> ends that.</returns>
    public IReadOnlyList<ServedModel> Put(IReadOnlyList<ServedModel> devices)
    {
        var name = devices[0].Name;
        IReadOnlyList<ServedModel> before = [];
        Change(content =>
        {
            before = content.Models.GetValueOrDefault(name, []);
            return new Content(content.Models.SetItem(name, [.. devices]), [.. content.WithoutBroken(name)], [.. content.Retired, .. before]);
        });
        return before;
    }

    /// <summary>Serves a model no more; nothing else is known of it then.</summary>
    /// <returns>What served, and has its streams still.</returns>
    public IReadOnlyList<ServedModel> Remove(string name)
    {
        IReadOnlyList<ServedModel> before = [];
        Change(content =>
        {
            before = content.Models.GetValueOrDefault(name, []);
            return new Content(content.Models.Remove(name), [.. content.WithoutBroken(name)], [.. content.Retired, .. before]);
        });
        return before;
    }

    /// <summary>Forgets a model that was replaced and has no streams any more.</summary>
    /// <returns>Whether it was there: who forgets it disposes it.</returns>
    public bool TryForget(ServedModel model)
    {
        var was = false;
        Change(content =>
        {
            was = content.Retired.Contains(model);
            return new Content(content.Models, content.Broken, [.. content.Retired.Where(other => other != model)]);
        });
        return was;
    }

    /// <summary>The model of this name on its first device; the empty name is the only model's, and nobody's where another one is broken: its streams must not come to a
    /// stranger.</summary>
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

    /// <summary>The model that a checkpoint belongs to: the one of its name, which the digest checks; where that is not served, one of the same file. Else why there is
    /// none.</summary>
    /// <param name="checkpoint">The checkpoint.</param>
    /// <param name="wanted">The model that is asked for, which decides between several of one file for a checkpoint without a name; empty for any.</param>
    public (ServedModel? Model, string Foreign) Of(CheckpointDescription checkpoint, string wanted)
    {
        var content = _content;
        if (content.Models.TryGetValue(checkpoint.ModelName, out var named))
        {
            return named[0].Engine.Model.Digest == checkpoint.Model
                ? (named[0], string.Empty)
                : (null, $"it was made with another file of model '{checkpoint.ModelName}': {checkpoint.Model}, which is now {named[0].Engine.Model.Digest}");
        }

        var alike = content.All.Where(model => model.Engine.Model.Digest == checkpoint.Model).ToList();
        return (
            alike.Find(model => model.Name == wanted) ?? alike.FirstOrDefault(),
            $"it belongs to model {checkpoint.ModelName}{(checkpoint.ModelName.Length > 0 ? ", " : string.Empty)}{checkpoint.Model}, which is not served here");
    }

    public async ValueTask DisposeAsync()
    {
        IReadOnlyCollection<ServedModel> engines = [];
        Change(content =>
        {
            engines = content.Engines;
            return Content.Empty;
        });
        foreach (var model in engines)
        {
            await model.DisposeAsync().ConfigureAwait(false);
        }
    }

    private void Change(Func<Content, Content> change)
    {
        lock (_gate)
        {
            _content = change(_content);
            Interlocked.Increment(ref _changes);
        }
    }

    private ServedModel[] Named(string name)
    {
        var content = _content;
        if (name.Length == 0)
        {
            var names = content.Models.Keys.Concat(content.Broken.Select(broken => broken.Name)).Distinct().Order(StringComparer.Ordinal).ToList();
            return names.Count == 1 && content.Models.Count == 1
                ? content.Models.Values.First()
                : throw new FailureException(Failure.Invalid("MODEL_MISSING", "model", $"name a model, there are {names.Count}: {string.Join(", ", names)}"));
        }

        if (content.Models.TryGetValue(name, out var engines))
        {
            return engines;
        }

        throw content.Broken.FirstOrDefault(broken => broken.Name == name) is { } known
            ? new FailureException(new Failure(FailureKind.FailedPrecondition, "MODEL_BROKEN", $"model '{name}' can't be served: {known.Reason}") { Field = "model" })
            : new FailureException(new Failure(
                FailureKind.NotFound,
                "MODEL_NOT_FOUND",
                $"model '{(name.Length <= 128 ? name : name[..128] + "…")}' does not exist; there is "
                    + (content.Models.Count == 0 ? "none" : string.Join(", ", content.Models.Keys)))
            { Field = "model" });
    }

    private sealed class Content(ImmutableSortedDictionary<string, ServedModel[]> models, BrokenModel[] broken, ServedModel[] retired)
    {
        public ImmutableSortedDictionary<string, ServedModel[]> Models { get; } = models;

        public BrokenModel[] Broken { get; } = broken;

        public ServedModel[] Retired { get; } = retired;

        public static Content Empty { get; } = new(ImmutableSortedDictionary.Create<string, ServedModel[]>(StringComparer.Ordinal), [], []);

        public ServedModel[] All { get; } = [.. models.Values.Select(devices => devices[0])];

        public ServedModel[] Engines { get; } = [.. models.Values.SelectMany(devices => devices), .. retired];

        public IEnumerable<BrokenModel> WithoutBroken(string name) => Broken.Where(broken => broken.Name != name);
    }
}
