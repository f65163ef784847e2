using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>A site and what is done in its pass over memory: the sum with a shortcut, then a clamp.</summary>
internal sealed class SiteChain(CompiledNode site)
{
    public CompiledNode Site { get; } = site;

    public CompiledNode Last { get; private set; } = site;

    /// <summary>The nodes that the chain stands for.</summary>
    public List<CompiledNode> Members { get; } = [site];

    /// <summary>Name of what the chain writes.</summary>
    public string Output => Last.Proto.Output[0];

    /// <summary>Name of what is added behind the normalization; null for nothing.</summary>
    public string? Residual { get; set; }

    public Epilogue Epilogue { get; set; } = Epilogue.None;

    public void Take(CompiledNode node)
    {
        Members.Add(node);
        Last = node;
    }
}

/// <summary>Finds what can be fused behind each site.</summary>
internal static class SiteFusion
{
    /// <summary>A chain a site, in execution order.</summary>
    public static List<SiteChain> Find(IReadOnlyList<CompiledNode> nodes, ValueFlow flow, GraphConstants constants)
    {
        var chains = new List<SiteChain>();
        var takenAdds = new HashSet<CompiledNode>();
        foreach (var site in nodes.Where(node => node.Site is not null))
        {
            var chain = new SiteChain(site);
            var next = flow.Next(site);
            if (next is { Proto.OpType: "Add" } && !takenAdds.Contains(next) && !IsBeforeSite(next, flow) && Shortcut(next, chain, flow, constants) is { } shortcut)
            {
                takenAdds.Add(next);
                chain.Residual = shortcut;
                chain.Take(next);
                next = flow.Next(next);
            }

            if (next is not null && !IsBeforeSite(next, flow) && Clamp(next) is { } epilogue)
            {
                chain.Epilogue = epilogue;
                chain.Take(next);
            }

            chains.Add(chain);
        }

        return chains;
    }

    // A virtual site's own node: with the source statistics it runs in the site's stead.
    private static bool IsBeforeSite(CompiledNode node, ValueFlow flow) => flow.Next(node)?.Site is { Kind: SiteKind.Virtual };

    // The other summand, unless it is a constant or a later site's, which takes the sum itself.
    private static string? Shortcut(CompiledNode sum, SiteChain chain, ValueFlow flow, GraphConstants constants)
    {
        var other = sum.Proto.Input.FirstOrDefault(input => input != chain.Output);
        if (other is null || constants.ByName.ContainsKey(other))
        {
            return null;
        }

        var isLaterSites = flow.Producer(other) is { Site: not null } producer && flow.IsBehind(producer, chain.Site) && flow.Uses(other) == 1;
        return isLaterSites ? null : other;
    }

    private static Epilogue? Clamp(CompiledNode node)
    {
        if (node.Proto.OpType == "Relu")
        {
            return Epilogue.Relu;
        }

        if (node.Proto.OpType != "Clip")
        {
            return null;
        }

        var (low, high) = Activations.Bounds(node.View);
        var computed = node.View.Opset >= 11
            && ((node.View.Inputs > 1 && node.Proto.Input[1].Length > 0 && low is null) || (node.View.Inputs > 2 && node.Proto.Input[2].Length > 0 && high is null));
        return computed ? null : new Epilogue(low ?? float.NegativeInfinity, high ?? float.PositiveInfinity);
    }
}
