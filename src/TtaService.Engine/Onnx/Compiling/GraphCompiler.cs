using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Turns a checked graph into programs: has its nodes read, its sites fused and its convolutions folded, and writes the instructions.</summary>
internal sealed class GraphCompiler : IDisposable
{
    private readonly GraphConstants _constants;
    private readonly List<CompiledNode> _nodes;
    private readonly ValueFlow _flow;
    private readonly SlotNames _slots = new();
    private readonly Convolutions _convolutions;

    public GraphCompiler(string path, GraphProto graph, long opset, Device device, ScalarType precision, Func<NormalizationSite, NormalizationSite?>? chooseVirtual = null)
    {
        var problems = new List<string>();
        _constants = new GraphConstants(device, precision);
        _constants.Read(path, graph, problems);
        Inputs = [.. graph.Input.Where(input => !_constants.ByName.ContainsKey(input.Name)).Select(Describe)];
        var sites = new SiteReader();
        var read = new NodeReader(_constants, sites, problems, Inputs.Select(input => input.Name)).Read(graph, opset);
        if (problems.Count > 0)
        {
            _constants.Dispose();
            throw new ModelLoadException($"{path} can't be served:\n{string.Join('\n', problems.Distinct())}");
        }

        var classifiers = graph.Output.Select(output => GraphTail.Classifier(graph, output.Name, _constants.ByName.ContainsKey)).ToArray();
        Outputs = [.. graph.Output.Zip(classifiers, (output, classifier) =>
            Describe(output) with { Activation = GraphTail.Activation(graph, output.Name), Features = FeaturesOf(classifier?.Layer) })];
        string[] outputs = [.. graph.Output.Select(output => output.Name)];
        (_nodes, VirtualSites) = Compiling.VirtualSites.Put(read, outputs, _constants, sites, chooseVirtual);
        _flow = new ValueFlow(_nodes, outputs);
        _convolutions = new Convolutions(_constants, Packed);
        Sites = [.. _nodes.Where(node => node.Site is not null).Select(node => node.Site!)];
        InputSlots = [.. Inputs.Select(input => _slots[input.Name])];
        OutputSlots = [.. Outputs.Select(output => _slots[output.Name])];
        FeatureSlots = [.. Outputs.Zip(classifiers, (output, classifier) => output.Features > 0 ? _slots[classifier!.Value.Features] : -1)];
        _constants.Keep(_nodes.SelectMany(node => node.Proto.Input).Concat(outputs).ToHashSet(StringComparer.Ordinal));
    }

    public IReadOnlyList<GraphValue> Inputs { get; }

    public IReadOnlyList<GraphValue> Outputs { get; }

    public IReadOnlyList<NormalizationSite> Sites { get; }

    public IReadOnlyList<NormalizationSite> VirtualSites { get; }

    public int ConvolutionCount => _nodes.Count(node => node.Proto.OpType is "Conv" or "ConvTranspose");

    public int[] InputSlots { get; }

    public int[] OutputSlots { get; }

    /// <summary>Of each output where its features are; -1 for an output without.</summary>
    public int[] FeatureSlots { get; }

    /// <summary>The convolutions that keep their weights in oneDNN's layout.</summary>
    public PackedConvolutions Packed { get; } = new();

    /// <summary>Null when the gradient of an output reaches every chosen site that it depends on, else why not.</summary>
    public string? WhyNotDifferentiable(string output, Func<NormalizationSite, bool> chosen) => DifferentiableOperators.WhyNot(_nodes, _flow, output, chosen);

    /// <summary>A program of this form.</summary>
    public Program Compile(ProgramForm form)
    {
        var foldsBatchNorm = form == ProgramForm.Folded;
        var slots = new ProgramSlots(_slots, _constants);
        var chains = SiteFusion.Find(_nodes, _flow, _constants);
        var byLast = chains.ToDictionary(chain => chain.Last);
        var written = chains.SelectMany(chain => chain.Members).ToHashSet();
        if (foldsBatchNorm)
        {
            written.UnionWith(chains.Select(chain => Convolutions.Before(chain.Site, _flow)).OfType<CompiledNode>());
        }

        var instructions = new List<Instruction>();
        foreach (var node in _nodes)
        {
            if (byLast.TryGetValue(node, out var chain))
            {
                instructions.Add(foldsBatchNorm ? Folded(chain, slots) : Asking(chain, slots));
            }
            else if (!written.Contains(node))
            {
                // Nobody knows the way back through oneDNN's packed weights.
                instructions.Add((form == ProgramForm.Differentiable ? null : _convolutions.Packed(node, slots))
                    ?? new KernelInstruction(node.Kernel!, slots.InputsOf(node), slots.OutputsOf(node), MemoryMakers.Include(node.Proto)));
            }
        }

        SlotPlan.Apply(instructions, OutputSlots.Concat(FeatureSlots.Where(slot => slot >= 0)), slots.IsConstant);
        return new Program(instructions, slots.Constants());
    }

    public void Dispose()
    {
        _constants.Dispose();
        Packed.Dispose();
    }

    private static SiteInstruction Asking(SiteChain chain, ProgramSlots slots)
    {
        var tail = Tail(chain, slots);
        return new SiteInstruction(chain.Site.Site!, slots.Of(chain.Site.Proto.Input[0]), tail.Residual, tail.Output, tail.Epilogue);
    }

    private KernelInstruction Folded(SiteChain chain, ProgramSlots slots)
    {
        var (site, tail) = (chain.Site.Site!, Tail(chain, slots));
        if (Convolutions.Before(chain.Site, _flow) is { } convolution)
        {
            return _convolutions.With(convolution, site, slots, tail);
        }

        var (mean, variance) = (_constants.Place(tensor(site.Mean)), _constants.Place(tensor(site.Variance)));
        var (gamma, beta) = (_constants.Place(tensor(site.Weight)), _constants.Place(tensor(site.Bias)));
        return tail.Behind(
            arguments => [nn.functional.batch_norm(arguments[0]!, mean, variance, gamma, beta, training: false, eps: site.Epsilon)],
            [slots.Of(chain.Site.Proto.Input[0])]);
    }

    private static SiteTail Tail(SiteChain chain, ProgramSlots slots) =>
        new(chain.Residual is { } residual ? slots.Of(residual) : -1, slots.Of(chain.Output), chain.Epilogue);

    // Of [Q,D] weights, of [D,Q] ones, and of [Q,D,1,1] ones.
    private int FeaturesOf(NodeProto? layer)
    {
        if (layer is null || _constants.ByName[layer.Input[1]].shape is not { } shape)
        {
            return 0;
        }

        var isTransposed = layer.OpType == "Gemm" && layer.Attribute.Any(attribute => attribute.Name == "transB" && attribute.I != 0);
        return (layer.OpType, shape) switch
        {
            ("Conv", [_, var features, 1, 1]) => (int)features,
            ("Gemm" or "MatMul", [var rows, var columns]) => (int)(isTransposed ? columns : rows),
            _ => 0,
        };
    }

    private static GraphValue Describe(ValueInfoProto value) => new(
        value.Name,
        [.. value.Type?.TensorType?.Shape?.Dim.Select(Extent) ?? []])
    {
        ElementType = ((TensorProto.Types.DataType)(value.Type?.TensorType?.ElemType ?? 0)).ToString().ToUpperInvariant(),
    };

    private static long Extent(TensorShapeProto.Types.Dimension dimension) =>
        dimension.ValueCase == TensorShapeProto.Types.Dimension.ValueOneofCase.DimValue && dimension.DimValue > 0 ? dimension.DimValue : -1;
}
