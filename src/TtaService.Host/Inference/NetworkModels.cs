using System.Collections.Concurrent;
using Microsoft.Extensions.Options;
using TtaService.Engine.Normalization;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The served networks as the Open Inference Protocol sees them.</summary>
internal sealed class NetworkModels(IServedModels models, IStreamStepping streams, IStreamOperations operations, IOptions<StreamsOptions> options, MethodRegistry methods)
{
    // A description is put together from every site and output: once a model, not once a request. Models stay as they were loaded.
    private readonly ConcurrentDictionary<string, NetworkModel> _known = new(StringComparer.Ordinal);

    /// <summary>The networks of the repository that are not served.</summary>
    public IEnumerable<(string Name, string Reason)> Broken => models.Broken.Select(broken => (broken.Name, broken.Reason));

    public IEnumerable<string> Names => models.All.Select(model => model.Name);

    /// <summary>The network of this name; null when there is none.</summary>
    public NetworkModel? Find(string name)
    {
        if (_known.TryGetValue(name, out var known))
        {
            return known;
        }

        // The empty name is that of the only model elsewhere, and of none here.
        return name.Length > 0 && models.Find(name).Value is { } model ? _known.GetOrAdd(name, new NetworkModel(model, streams, operations, options.Value, methods)) : null;
    }
}
