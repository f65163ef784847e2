using Microsoft.Extensions.Options;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Looks at the repository now and then: a folder that is new or changed is loaded, one that was taken away is unloaded.</summary>
internal sealed class ModelWatcher(ModelCatalog catalog, ModelChanges changes, LoopWatch loops, IOptions<ModelsOptions> options, TimeProvider clock)
    : BackgroundLoop(loops, LoopKind.ModelWatch, "the watch over the model repository", Period(options.Value), clock)
{
    // How a folder looked when it was last loaded, or tried; and at the look before this one.
    private readonly Dictionary<string, string> _taken = new(StringComparer.Ordinal);
    private Dictionary<string, string> _seen = new(StringComparer.Ordinal);
    private bool _first = true;

    protected override bool IsNeeded => options.Value.WatchEvery > TimeSpan.Zero;

    /// <summary>Looks once.</summary>
    public Task LookAsync() => TurnAsync(CancellationToken.None);

    protected override async Task TurnAsync(CancellationToken stop)
    {
        var before = _seen;
        var path = Path.GetFullPath(options.Value.Path);
        if (!Directory.Exists(path))
        {
            // A volume that is away for a moment is no wish to unload everything.
            return;
        }

        _seen = ModelRepository.Folders(path)
            .Select(folder => (Name: Path.GetFileName(folder), Stamp: ModelStamp.Of(folder)))
            .Where(folder => folder.Stamp is not null)
            .ToDictionary(folder => folder.Name, folder => folder.Stamp!, StringComparer.Ordinal);
        if (_first)
        {
            // As they were loaded with the start.
            _first = false;
            foreach (var (name, stamp) in _seen)
            {
                _taken[name] = stamp;
            }

            return;
        }

        foreach (var (name, stamp) in _seen)
        {
            // The same in two looks, so that no half-written file is read.
            if (_taken.GetValueOrDefault(name) != stamp && before.GetValueOrDefault(name) == stamp)
            {
                _taken[name] = stamp;
                await Beat.TryAsync($"model '{name}'", () => TryLoadAsync(name), stop).ConfigureAwait(false);
                Beat.Turned();
            }
        }

        foreach (var name in _taken.Keys.Where(name => !_seen.ContainsKey(name) && !before.ContainsKey(name)).ToList())
        {
            _taken.Remove(name);
            if (catalog.Serves(name) || catalog.Broken.Any(broken => broken.Name == name))
            {
                await Beat.TryAsync($"model '{name}'", () => changes.UnloadAsync(name), stop).ConfigureAwait(false);
            }
        }
    }

    private async Task TryLoadAsync(string name)
    {
        try
        {
            await changes.LoadAsync(name).ConfigureAwait(false);
        }
        catch (FailureException)
        {
            // Logged where it was refused, and tried again when the folder changes.
        }
    }

    private static TimeSpan Period(ModelsOptions options) => options.WatchEvery > TimeSpan.Zero ? options.WatchEvery : TimeSpan.FromHours(1);
}
