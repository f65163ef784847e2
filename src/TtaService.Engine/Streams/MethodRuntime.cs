using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Normalization.Filters;

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
    /// <exception cref="MethodSettingsException">The method can't be made, or what it says of its state is wrong.</exception>
    public MethodRuntime(MethodSettings settings, MethodTarget model, ulong modelKey, ArenaPool? arenas = null)
    {
        Settings = settings;
        Method = Bind(settings, model);
        Spans = Method as ISpanMethod;
        IsForeign = MethodFault.IsForeign(Method);
        ReadsFrames = ReadsFramesOf(settings, Method);
        var filter = new SiteFilter(settings);
        _sites = model.Sites;
        Scores = model.Scores;
        _modelKey = modelKey;
        _selected = [.. _sites.Select(filter.Selects)];
        Layout = LayoutOf(settings, Method, _sites);
        Filter = settings.Filter?.Create(settings, model);
        FilterLayout = Filter is null ? null : StateLayout.OfFilter(Filter.State);
        _arenas = arenas ?? new ArenaPool(device: null);
        Arena = _arenas.Rent(Layout.RowFloats);
    }

    /// <summary>The method on the sites of a model that its settings choose.</summary>
    /// <exception cref="MethodSettingsException">It can't be made.</exception>
    public static INormalizationMethod Bind(MethodSettings settings, MethodTarget model) =>
        settings.Definition.Make(settings, model with { Sites = [.. model.Sites.Where(new SiteFilter(settings).Selects)] });

    /// <summary>Whether a method decides anywhere.</summary>
    /// <exception cref="MethodSettingsException">It fails at that.</exception>
    public static bool ReadsFramesOf(MethodSettings settings, INormalizationMethod method)
    {
        try
        {
            return method.ReadsFrames;
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            throw new MethodSettingsException(MethodFault.Message(settings.Name, "when it was asked whether it reads frames", fault));
        }
    }

    /// <summary>Where the state of a method lies in a stream's row.</summary>
    /// <exception cref="MethodSettingsException">What the method says of its state is wrong.</exception>
    public static StateLayout LayoutOf(MethodSettings settings, INormalizationMethod method, IReadOnlyList<NormalizationSite> sites)
    {
        try
        {
            var filter = new SiteFilter(settings);
            return new StateLayout(
                sites,
                site => filter.Selects(site) ? Required(method.StateAt(site)) : [],
                method is IStreamMethod whole ? Required(whole.StreamState) : []);
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            throw new MethodSettingsException(MethodFault.Message(settings.Name, "when it was asked for its state", fault));
        }
    }

    /// <summary>Bytes of what a method's prediction filter keeps of a stream.</summary>
    public static long FilterBytesOf(MethodSettings settings, MethodTarget model) =>
        settings.Filter is { } filter ? sizeof(float) * (long)StateLayout.OfFilter(filter.Create(settings, model).State).RowFloats : 0;

    public MethodSettings Settings { get; }

    public INormalizationMethod Method { get; }

    /// <summary>The method's form over spans; null for one that has its torch form alone.</summary>
    public ISpanMethod? Spans { get; }

    /// <summary>Whether the method's code is not the engine's.</summary>
    public bool IsForeign { get; }

    /// <summary>Whether the method decides anywhere; else the source statistics do.</summary>
    public bool ReadsFrames { get; }

    public StateLayout Layout { get; }

    /// <summary>What replaces predictions behind the pass; null for nothing.</summary>
    public IPredictionFilter? Filter { get; }

    /// <summary>Where the state of <see cref="Filter"/> lies in what a stream keeps for it; null without one.</summary>
    public StateLayout? FilterLayout { get; }

    /// <summary>Bytes of the state of <see cref="Filter"/>, in the host's memory.</summary>
    public long FilterBytes => sizeof(float) * (long)(FilterLayout?.RowFloats ?? 0);

    /// <summary>The output with the classes' scores; null for none.</summary>
    public ModelOutput? Scores { get; }

    /// <summary>The rows of its streams, and of others whose rows are as long.</summary>
    public StateArena Arena { get; }

    /// <summary>Streams that are resident.</summary>
    public int Streams { get; set; }

    /// <summary>Bytes of a stream's row.</summary>
    public long RowBytes => Arena.RowBytes;

    /// <summary>Whether the method decides at this site; elsewhere the source statistics do.</summary>
    public bool Adapts(NormalizationSite site) => _selected[site.Index] && ReadsFrames;

    /// <summary>The filter's state of a stream that has seen nothing.</summary>
    public float[] InitialFilter()
    {
        var state = new float[FilterLayout?.RowFloats ?? 0];
        Filter?.Initialize(state.AsSpan(0, FilterLayout!.Stream.Length));
        return state;
    }

    /// <summary>Writes the row of a stream that has seen nothing.</summary>
    /// <exception cref="MethodSettingsException">The method fails at that.</exception>
    public void Initialize(Span<float> row, ulong seed)
    {
        row.Clear();
        var place = "a stream's own state";
        try
        {
            foreach (var site in _sites)
            {
                if (_selected[site.Index])
                {
                    place = site.Name;
                    var (offset, length) = Layout.At(site);
                    Method.Initialize(site, SiteSeed.Create(_modelKey, site.Index, seed), row.Slice(offset, length));
                }
            }

            (Method as IStreamMethod)?.InitializeStream(row.Slice(Layout.Stream.Offset, Layout.Stream.Length));
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            throw new MethodSettingsException(MethodFault.Message(Settings.Name, $"when it began the state at '{place}'", fault));
        }
    }

    public void Dispose()
    {
        try
        {
            (Method as IDisposable)?.Dispose();
        }
        catch (Exception fault) when (IsForeign && MethodFault.IsOwn(fault))
        {
            // What it leaves behind is its own.
        }

        _arenas.Return(Arena);
    }

    private static IReadOnlyList<StateTensor> Required(IReadOnlyList<StateTensor>? tensors)
    {
        if (tensors is null)
        {
            throw new MethodAnswerException("it gave null; give an empty list where there is no state");
        }

        foreach (var tensor in tensors)
        {
            if (string.IsNullOrEmpty(tensor.Name) || tensor.Name.Contains('.', StringComparison.Ordinal) || ObservedStatistics.IsTensor($".{tensor.Name}"))
            {
                throw new MethodAnswerException($"a tensor is named '{ForeignText.Clip(tensor.Name ?? "")}'; name it in snake case, with the method's name before it");
            }

            if (tensor.Shape is null || Array.Exists(tensor.Shape, extent => extent < 0))
            {
                throw new MethodAnswerException($"tensor '{ForeignText.Clip(tensor.Name)}' has shape [{string.Join(',', tensor.Shape ?? [])}]; no extent may be negative");
            }
        }

        return tensors.Select(tensor => tensor.Name).Distinct(StringComparer.Ordinal).Count() == tensors.Count
            ? tensors
            : throw new MethodAnswerException("two tensors of a site have one name; name each differently");
    }
}
