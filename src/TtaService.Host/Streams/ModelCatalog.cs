using System.Diagnostics.CodeAnalysis;

namespace TtaService.Host.Streams;

/// <summary>The models that are served, by name. Filled while the host starts.</summary>
internal sealed class ModelCatalog : IAsyncDisposable
{
    private readonly SortedDictionary<string, ServedModel> _models = new(StringComparer.Ordinal);

    public IReadOnlyCollection<ServedModel> All => _models.Values;

    public void Add(ServedModel model) => _models.Add(model.Name, model);

    /// <summary>The model of this name; the empty name is the only model's.</summary>
    public ServedModel Find(string name)
    {
        if (name.Length == 0)
        {
            return _models.Count == 1
                ? _models.Values.First()
                : throw new FailureException(Failure.Invalid("MODEL_MISSING", "model", $"name a model, there are {_models.Count}: {Names()}"));
        }

        return _models.TryGetValue(name, out var model)
            ? model
            : throw new FailureException(new Failure(FailureKind.NotFound, "MODEL_NOT_FOUND", $"model '{(name.Length <= 128 ? name : name[..128] + "…")}' does not exist; there is {Names()}") { Field = "model" });
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var model in _models.Values)
        {
            await model.DisposeAsync().ConfigureAwait(false);
        }

        _models.Clear();
    }

    private string Names() => _models.Count == 0 ? "none" : string.Join(", ", _models.Keys);
}
