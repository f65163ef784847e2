using TtaService.Engine.Normalization;
using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>A method with settings on a model: the sites it adapts, where their state lies, and the rows of all its streams.</summary>
internal sealed class MethodRuntime : IDisposable
{
    private readonly IReadOnlyList<NormalizationSite> _sites;
    private readonly bool[] _selected;
    private readonly ulong _modelKey;

    /// <param name="settings">The method.</param>
    /// <param name="model">The model, with all its sites.</param>
    /// <param name="modelKey">Seeds the states' random parts.</param>
    /// <param name="device">Where states lie; null for the host's memory.</param>
    public MethodRuntime(MethodSettings settings, MethodTarget model, ulong modelKey, Device? device = null)
    {
        Settings = settings;
        Method = Bind(settings, model);
        var filter = new SiteFilter(settings);
        _sites = model.Sites;
        _modelKey = modelKey;
        _selected = [.. _sites.Select(filter.Selects)];
        Layout = new StateLayout(_sites, Method, filter);
        Arena = StateArena.Create(Layout.RowFloats, device);
    }

    /// <summary>The method on the sites of a model that its settings choose.</summary>
    public static INormalizationMethod Bind(MethodSettings settings, MethodTarget model) =>
        NormalizationMethods.Find(settings.Name)!.Create(settings, model with { Sites = [.. model.Sites.Where(new SiteFilter(settings).Selects)] });

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

        (Method as IPassMethod)?.InitializeStream(row.Slice(Layout.Stream.Offset, Layout.Stream.Length));
    }

    public void Dispose()
    {
        (Method as IDisposable)?.Dispose();
        Arena.Dispose();
    }
}
