using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Puts virtual sites behind convolutions, and behind sums that end a BatchNormalization in parts or a residual block: such a node writes a value of its own, the
/// site behind it writes the node's.</summary>
internal static class VirtualSites
{
    /// <summary>The places where virtual sites can be, and the nodes with those that were chosen. Names do not depend on which are chosen.</summary>
    /// <param name="nodes">As they were read.</param>
    /// <param name="outputs">Names of the graph's outputs.</param>
    /// <param name="constants">The graph's.</param>
    /// <param name="names">Names the places.</param>
    /// <param name="choose">The site with its source statistics for a place, or null to leave it as it is; null leaves all.</param>
    public static (List<CompiledNode> Nodes, List<NormalizationSite> Places) Put(
        IReadOnlyList<CompiledNode> nodes,
        IEnumerable<string> outputs,
        GraphConstants constants,
        SiteReader names,
        Func<NormalizationSite, NormalizationSite?>? choose)
    {
        var finder = new VirtualSiteFinder([.. nodes.Select(node => node.Proto)], [.. outputs], name => constants.ByName.GetValueOrDefault(name));
        var (places, all, sites) = (new List<NormalizationSite>(), new List<CompiledNode>(), 0);
        foreach (var node in nodes)
        {
            if (node.Site is { } own)
            {
                all.Add(node with { Site = own with { Index = sites++ } });
                continue;
            }

            if (finder.Place(node.Proto) is not { } axis)
            {
                all.Add(node);
                continue;
            }

            var place = Place(places.Count, names.Unique(node.View.Name), node.View, axis) with { IsFeature = finder.HasFeatures };
            places.Add(place);
            if (choose?.Invoke(place) is not { } chosen)
            {
                all.Add(node);
                continue;
            }

            var split = node.Proto.Clone();
            var output = split.Output[0];
            split.Output[0] = $"{output}\nas convolved";
            all.Add(node with { Proto = split });
            all.Add(new CompiledNode(
                new NodeProto { OpType = "VirtualSite", Name = place.Name, Input = { split.Output[0] }, Output = { output } },
                node.View,
                null,
                chosen with { Index = sites++ }));
        }

        return (all, places);
    }

    private static NormalizationSite Place(int index, string name, Node node, ChannelAxis axis)
    {
        var channels = (int)axis.Channels;
        var place = NormalizationSite.Virtual(index, name, new float[channels], [.. Enumerable.Repeat(1f, channels)], Bias(node, channels));
        return place with { ChannelsLast = axis.IsLast };
    }

    private static Tensor? Shift(Node sum) => VirtualSiteFinder.PerChannel(sum.Constant(0)) ?? VirtualSiteFinder.PerChannel(sum.Constant(1));

    private static float[] Bias(Node node, int channels)
    {
        var bias = node.Type == "Add" ? Shift(node) : node.HasInput(2) ? node.Constant(2) : null;
        return bias?.Singles() is { } values && values.Length == channels ? values : new float[channels];
    }
}
