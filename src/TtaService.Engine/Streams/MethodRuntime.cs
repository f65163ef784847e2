using TtaService.Engine.Normalization;
using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>A method with settings on a model: the sites it adapts, where their state lies, and the rows of all its streams.</summary>
internal sealed class MethodRuntime : IDisposable
{
    private readonly IReadOnlyList<NormalizationSite> _sites;
    private readonly bool[] _selected;
    private readonly ulong _modelKey;

    public MethodRuntime(MethodSettings settings, IReadOnlyList<NormalizationSite> sites, ulong modelKey, Device? device = null)
    {
        Settings = settings;
        Method = NormalizationMethods.Find(settings.Name)!.Create(settings);
        var filter = new SiteFilter(settings);
        _sites = sites;
        _modelKey = modelKey;
        _selected = [.. sites.Select(filter.Selects)];
        Layout = new StateLayout(sites, Method, filter);
        Arena = StateArena.Create(Layout.RowFloats, device);
    }

    public MethodSettings Settings { get; }

    public INormalizationMethod Method { get; }

    public StateLayout Layout { get; }

    public StateArena Arena { get; }

    /// <summary>Bytes of a stream's row.</summary>
    public long RowBytes => (long)Layout.RowFloats * sizeof(float);

    /// <summary>Whether the method decides at this site; elsewhere the source statistics do.</summary>
    public bool Adapts(NormalizationSite site) => _selected[site.Index] && Method.ReadsFrames;

    /// <summary>Writes the row of a stream that has seen nothing.</summary>
    public void Initialize(Span<float> row, ulong seed)
    {
        row.Clear();
        foreach (var site in _sites)
        {
            if (_selected[site.Index])
            {
                var (offset, length) = Layout.At(site);
                Method.Initialize(site, SiteSeed.Create(_modelKey, site.Index, seed), row.Slice(offset, length));
            }
        }
    }

    public void Dispose() => Arena.Dispose();
}
