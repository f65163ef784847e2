using TtaService.Engine.Normalization;

namespace TtaService.Engine.Streams;

/// <summary>Which floats of a stream's row belong to which site: offsets and named tensors, of one method or of the observation, on one model.</summary>
internal sealed class StateLayout
{
    // Sites start on a cache line, so that rows can be read with aligned vectors.
    private const int Alignment = 16;

    private readonly (int Offset, int Length)[] _sites;

    /// <summary>A layout of the tensors that are named for each site.</summary>
    public StateLayout(
        IReadOnlyList<NormalizationSite> sites, Func<NormalizationSite, IReadOnlyList<StateTensor>> tensorsAt, IReadOnlyList<StateTensor>? ofStream = null, string owner = "stream")
    {
        _sites = new (int, int)[sites.Count];
        var tensors = new List<LayoutTensor>();
        var offset = 0;
        foreach (var site in sites)
        {
            _sites[site.Index] = Place(site.Name, tensorsAt(site));
        }

        Stream = Place(owner, ofStream ?? []);
        RowFloats = offset;
        Tensors = tensors;

        (int, int) Place(string owner, IReadOnlyList<StateTensor> own)
        {
            var start = offset;
            foreach (var tensor in own)
            {
                tensors.Add(new LayoutTensor($"{owner}.{tensor.Name}", tensor.Shape, offset, tensor.Length, tensor.MayLack));
                offset = checked(offset + tensor.Length);
            }

            var length = offset - start;
            offset = checked((offset + Alignment - 1) / Alignment * Alignment);
            return (start, length);
        }
    }

    /// <summary>A layout of what a prediction filter keeps.</summary>
    public static StateLayout OfFilter(IReadOnlyList<StateTensor> tensors) => new([], _ => [], tensors, "filter");

    /// <summary>Floats of a row.</summary>
    public int RowFloats { get; }

    /// <summary>Where what a stream keeps besides its sites' state lies in a row.</summary>
    public (int Offset, int Length) Stream { get; }

    /// <summary>Every tensor of a row, in site order; the stream's own at the end.</summary>
    public IReadOnlyList<LayoutTensor> Tensors { get; }

    /// <summary>Where a site's state lies in a row.</summary>
    public (int Offset, int Length) At(NormalizationSite site) => _sites[site.Index];
}

/// <summary>One named tensor of a row.</summary>
internal readonly record struct LayoutTensor(string Name, int[] Shape, int Offset, int Length, bool MayLack = false);
