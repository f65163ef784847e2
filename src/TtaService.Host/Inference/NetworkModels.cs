using System.Collections.Concurrent;
using Microsoft.Extensions.Options;
using TtaService.Engine.Normalization;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The served networks as the Open Inference Protocol sees them.</summary>
internal sealed class NetworkModels(IServedModels models, IStreamStepping streams, IStreamOperations operations, IOptions<StreamsOptions> options, MethodRegistry methods)
{
    // A description is put together from every site and output: once a model, not once a request, until a model is loaded or unloaded.
    private volatile Known _known = new(-1);

    /// <summary>The networks of the repository that are not served.</summary>
    public IEnumerable<(string Name, string Reason)> Broken => models.Broken.Select(broken => (broken.Name, broken.Reason));

    public IEnumerable<string> Names => models.All.Select(model => model.Name);

    /// <summary>The network of this name; null when there is none.</summary>
    public NetworkModel? Find(string name)
    {
        var changes = models.Changes;
        if (_known.Changes != changes)
        {
            _known = new Known(changes);
        }

        var known = _known.Models;
        if (known.TryGetValue(name, out var network))
        {
            return network;
        }

        // The empty name is that of the only model elsewhere, and of none here.
        return name.Length > 0 && models.Find(name).Value is { } model ? known.GetOrAdd(name, new NetworkModel(model, streams, operations, options.Value, methods)) : null;
    }

    /// <summary>Loads a model as its folder is now.</summary>
    /// <exception cref="FailureException">It can't be served.</exception>
    public async Task LoadAsync(string name) => _ = (await models.LoadAsync(name).ConfigureAwait(false)).OrThrow();

    /// <summary>Serves a model no more.</summary>
    /// <exception cref="FailureException">There is none.</exception>
    public async Task UnloadAsync(string name) => _ = (await models.UnloadAsync(name).ConfigureAwait(false)).OrThrow();

    private sealed class Known(int changes)
    {
        public int Changes { get; } = changes;

        public ConcurrentDictionary<string, NetworkModel> Models { get; } = new(StringComparer.Ordinal);
    }
}
