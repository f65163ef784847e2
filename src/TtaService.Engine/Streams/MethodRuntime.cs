using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;

namespace TtaService.Engine.Streams;

/// <summary>A method with settings on a model: the sites it adapts, where their state lies, and the rows of all its streams.</summary>
internal sealed class MethodRuntime : IDisposable
{
    private readonly IReadOnlyList<NormalizationSite> _sites;
    private readonly bool[] _selected;
    private readonly ulong _modelKey;

    private readonly ArenaPool _arenas;

    /// <param name="settings">The method and its hyperparameters.</param>
    /// <param name="model">The model, with all its sites.</param>
    /// <param name="modelKey">Seeds what the method draws at random, with the stream's seed.</param>
    /// <param name="arenas">Where rows come from; a pool in the host's memory of its own when null.</param>
    public MethodRuntime(MethodSettings settings, MethodTarget model, ulong modelKey, ArenaPool? arenas = null)
    {
        Settings = settings;
        Method = Bind(settings, model);
        var filter = new SiteFilter(settings);
        _sites = model.Sites;
        Scores = model.Scores;
        _modelKey = modelKey;
        _selected = [.. _sites.Select(filter.Selects)];
        Layout = new StateLayout(_sites, Method, filter);
        _arenas = arenas ?? new ArenaPool(device: null);
        Arena = _arenas.Rent(Layout.RowFloats);
    }

    /// <summary>The method on the sites of a model that its settings choose.</summary>
    public static INormalizationMethod Bind(MethodSettings settings, MethodTarget model) =>
        NormalizationMethods.Find(settings.Name)!.Create(settings, model with { Sites = [.. model.Sites.Where(new SiteFilter(settings).Selects)] });

    public MethodSettings Settings { get; }

    public INormalizationMethod Method { get; }

    public StateLayout Layout { get; }

    /// <summary>The output with the classes' scores; null for none.</summary>
    public ModelOutput? Scores { get; }

    /// <summary>The rows of its streams, and of others whose rows are as long.</summary>
    public StateArena Arena { get; }

    /// <summary>Streams that are resident.</summary>
    public int Streams { get; set; }

    /// <summary>Bytes of a stream's row.</summary>
    public long RowBytes => Arena.RowBytes;

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

        var ofStream = row.Slice(Layout.Stream.Offset, Layout.Stream.Length);
        (Method as IPassMethod)?.InitializeStream(ofStream);
        (Method as IAffineMethod)?.InitializeStream(ofStream);
    }

    public void Dispose()
    {
        (Method as IDisposable)?.Dispose();
        _arenas.Return(Arena);
    }
}
