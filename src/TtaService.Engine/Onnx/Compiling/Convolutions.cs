using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Compiles convolutions: with their weights packed where oneDNN can keep them, and with a site's source statistics folded into them.</summary>
internal sealed class Convolutions(GraphConstants constants, PackedConvolutions all)
{
    private readonly Dictionary<CompiledNode, PackedConvolution?> _packed = new(ReferenceEqualityComparer.Instance);

    /// <summary>The convolution whose place a site's folded form takes; null for a site that can't be folded.</summary>
    public static CompiledNode? Before(CompiledNode site, ValueFlow flow)
    {
        var producer = flow.Producer(site.Proto.Input[0]);
        return site.Site!.Kind == SiteKind.Virtual ? producer
            : producer is { Proto.OpType: "Conv" }
                && flow.Uses(site.Proto.Input[0]) == 1
                && producer.View.Constant(1) is not null
                && (producer.Proto.Input.Count < 3 || producer.View.Constant(2) is not null) ? producer : null;
    }

    /// <summary>A convolution as it is, packed; null where it can't be.</summary>
    public KernelInstruction? Packed(CompiledNode node, ProgramSlots slots) =>
        PackedAsItIs(node) is { } packed ? Run(packed, node, slots, SiteTail.None(slots.Of(node.Proto.Output[0]))) : null;

    /// <summary>A convolution and what was fused behind the site that follows it. A virtual site is the identity at its source statistics; another one's are folded into
    /// the weights.</summary>
    public KernelInstruction With(CompiledNode convolution, NormalizationSite site, ProgramSlots slots, SiteTail tail)
    {
        if (site.Kind == SiteKind.Virtual)
        {
            return PackedAsItIs(convolution) is { } asItIs ? Run(asItIs, convolution, slots, tail) : tail.Behind(convolution.Kernel!, slots.InputsOf(convolution));
        }

        var (weight, bias) = Fold(convolution, site);
        if (Pack(convolution, weight, bias) is { } packed)
        {
            return Run(packed, convolution, slots, tail);
        }

        int[] inputs = [slots.Of(convolution.Proto.Input[0]), slots.Add(constants.Place(GraphConstants.ChannelsLast(weight))), slots.Add(bias)];
        return tail.Behind(convolution.Kernel!, inputs);
    }

    private static KernelInstruction Run(PackedConvolution packed, CompiledNode node, ProgramSlots slots, SiteTail tail) =>
        tail.Behind(arguments => [packed.Run(arguments[0]!)], [slots.Of(node.Proto.Input[0])]);

    private (Tensor Weight, Tensor Bias) Fold(CompiledNode convolution, NormalizationSite site)
    {
        using var scope = NewDisposeScope();
        var weight = constants.ByName[convolution.Proto.Input[1]];
        var scale = tensor(site.Weight) / tensor(site.Variance).Plus(site.Epsilon).sqrt();
        long[] perFilter = [-1, .. Enumerable.Repeat(1L, (int)weight.dim() - 1)];
        var own = convolution.Proto.Input.Count > 2 ? constants.ByName[convolution.Proto.Input[2]] : zeros(site.Channels);
        var folded = weight * scale.reshape(perFilter);
        var bias = ((own - tensor(site.Mean)) * scale).Plus(tensor(site.Bias));
        return (folded.MoveToOuterDisposeScope(), constants.Place(bias));
    }

    // Both programs share it where nothing is folded into the weights.
    private PackedConvolution? PackedAsItIs(CompiledNode node)
    {
        if (node.Proto.OpType != "Conv" || node.View.Constant(1) is not { } weight || (node.View.HasInput(2) && node.View.Constant(2) is null))
        {
            return null;
        }

        if (!_packed.TryGetValue(node, out var packed))
        {
            _packed.Add(node, packed = Pack(node, weight, node.View.Constant(2) is { } bias ? constants.Place(bias) : null));
        }

        return packed;
    }

    private PackedConvolution? Pack(CompiledNode node, Tensor weight, Tensor? bias)
    {
        if (!ConvolutionScript.Supported
            || !constants.AreForHost
            || weight.dtype != ScalarType.Float32
            || (bias is not null && (bias.dim() != 1 || bias.shape[0] != weight.shape[0])))
        {
            return null;
        }

        return ConvolutionGeometry.Of(node.View) is { } geometry ? all.Add(geometry, node.Kernel!, GraphConstants.ChannelsLast(weight), bias) : null;
    }
}
