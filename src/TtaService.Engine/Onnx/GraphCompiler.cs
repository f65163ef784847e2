using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>Turns a checked graph into programs: folds constants, finds the sites, fuses what follows them, and plans when values die.</summary>
internal sealed class GraphCompiler : IDisposable
{
    // Constants that were computed at load, together: 512 MiB of float32. Weights come as initializers; what a graph computes from its constants are shapes, anchors and masks.
    private const long MaxFoldedElements = 1L << 27;

    private readonly GraphProto _graph;
    private readonly Device _device;
    private readonly ScalarType _precision;
    private readonly Dictionary<string, Tensor> _constants = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _slots = new(StringComparer.Ordinal);
    private readonly Dictionary<string, int> _uses = new(StringComparer.Ordinal);
    private readonly List<CompiledNode> _nodes = [];
    private readonly Dictionary<Tensor, Tensor> _placed = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<Tensor> _owned = new(ReferenceEqualityComparer.Instance);
    private readonly PackedConvolutions _convolutions = new();
    private readonly Dictionary<CompiledNode, PackedConvolution?> _packed = new(ReferenceEqualityComparer.Instance);
    private readonly List<string> _problems = [];
    private readonly HashSet<string> _siteNames = new(StringComparer.Ordinal);
    private int _slotCount;
    private long _folded;

    public GraphCompiler(string path, GraphProto graph, long opset, Device device, ScalarType precision, Func<NormalizationSite, NormalizationSite?>? chooseVirtual = null)
    {
        _graph = graph;
        _device = device;
        _precision = precision;
        ReadConstants(path);
        var initializers = _constants.Keys.ToHashSet(StringComparer.Ordinal);
        Inputs = [.. graph.Input.Where(input => !initializers.Contains(input.Name)).Select(Describe)];
        Outputs = [.. graph.Output.Select(output => Describe(output) with { Activation = GraphTail.Activation(graph, output.Name) })];
        var defined = Inputs.Select(input => input.Name).Concat(initializers).ToHashSet(StringComparer.Ordinal);
        CountUses();
        foreach (var proto in graph.Node)
        {
            try
            {
                Add(proto, opset, defined);
            }
            catch (Exception malformed) when (malformed is not (OutOfMemoryException or ModelLoadException))
            {
                // Weights of the wrong rank, attributes of the wrong length: a file may hold anything.
                _problems.Add($"node '{proto.Name}' ({proto.OpType}, opset {opset}): is malformed ({malformed.Message.Split('\n')[0]})");
            }
        }

        foreach (var output in graph.Output.Where(output => !defined.Contains(output.Name)))
        {
            _problems.Add($"output '{output.Name}' is made by no node");
        }

        if (_problems.Count > 0)
        {
            Dispose();
            throw new ModelLoadException($"{path} can't be served:\n{string.Join('\n', _problems.Distinct())}");
        }

        VirtualSites = PlaceVirtualSites(chooseVirtual);
        Sites = [.. _nodes.Where(node => node.Site is not null).Select(node => node.Site!)];
        InputSlots = [.. Inputs.Select(input => Slot(input.Name))];
        OutputSlots = [.. Outputs.Select(output => Slot(output.Name))];
        DropUnread();
        foreach (var constant in _constants.Values)
        {
            Own(constant);
        }
    }

    public IReadOnlyList<GraphValue> Inputs { get; }

    public IReadOnlyList<GraphValue> Outputs { get; }

    public IReadOnlyList<NormalizationSite> Sites { get; } = [];

    public IReadOnlyList<NormalizationSite> VirtualSites { get; } = [];

    public int ConvolutionCount => _nodes.Count(node => node.Proto.OpType is "Conv" or "ConvTranspose");

    public int[] InputSlots { get; } = [];

    public int[] OutputSlots { get; } = [];

    /// <summary>The convolutions that keep their weights in oneDNN's layout.</summary>
    public PackedConvolutions Convolutions => _convolutions;

    /// <summary>A program that asks at the sites, or one with the source statistics folded into the convolutions before them.</summary>
    public Program Compile(bool foldsBatchNorm)
    {
        var constants = new Dictionary<int, Tensor>();
        foreach (var (name, constant) in _constants)
        {
            constants[Slot(name)] = Place(constant);
        }

        var producers = new Dictionary<string, CompiledNode>(StringComparer.Ordinal);
        foreach (var node in _nodes)
        {
            foreach (var output in node.Proto.Output)
            {
                producers[output] = node;
            }
        }

        var chains = Chains(producers);
        var swallowed = chains.Values.SelectMany(chain => chain.Members).ToHashSet();
        var byLast = chains.Values.ToDictionary(chain => chain.Last);
        var foldedConvolutions = foldsBatchNorm
            ? _nodes.Where(node => node.Site is not null && Foldable(producers, node)).ToDictionary(node => producers[node.Proto.Input[0]], node => node)
            : [];
        var instructions = new List<Instruction>();
        foreach (var node in _nodes)
        {
            if (byLast.TryGetValue(node, out var chain))
            {
                instructions.Add(Emit(chain, producers, constants, foldsBatchNorm));
            }
            else if (!swallowed.Contains(node) && !foldedConvolutions.ContainsKey(node))
            {
                instructions.Add(Packed(node) ?? new KernelInstruction(
                    node.Kernel!,
                    Relaid(node, constants),
                    [.. node.Proto.Output.Select(OutputSlot)],
                    BufferPlan.MakesMemory(node.Proto)));
            }
        }

        PlanDeaths(instructions, constants);
        BufferPlan.Overwrite(instructions, OutputSlots, constants.ContainsKey);
        var filled = new Tensor?[_slotCount];
        foreach (var (slot, constant) in constants)
        {
            filled[slot] = constant;
        }

        return new Program(instructions, filled);
    }

    public void Dispose()
    {
        foreach (var constant in _owned)
        {
            constant.Dispose();
        }

        _owned.Clear();
        _convolutions.Dispose();
    }

    // What was folded into other constants dies with the scope: quantized weights are held eightfold until then.
    private void DropUnread()
    {
        var read = _nodes.SelectMany(node => node.Proto.Input).Concat(_graph.Output.Select(output => output.Name)).ToHashSet(StringComparer.Ordinal);
        foreach (var name in _constants.Keys.Where(name => !read.Contains(name)).ToList())
        {
            _constants.Remove(name);
        }
    }

    private void ReadConstants(string path)
    {
        var decoder = new TensorDecoder(Path.GetDirectoryName(Path.GetFullPath(path))!);
        foreach (var initializer in _graph.Initializer)
        {
            try
            {
                _constants[initializer.Name] = decoder.Decode(initializer);
            }
            catch (ModelLoadException e)
            {
                _problems.Add(e.Message);
                _constants[initializer.Name] = zeros(1);
            }
        }
    }

    private void CountUses()
    {
        foreach (var name in _graph.Node.SelectMany(node => node.Input).Concat(_graph.Output.Select(output => output.Name)))
        {
            _uses[name] = _uses.GetValueOrDefault(name) + 1;
        }
    }

    private void Add(NodeProto proto, long opset, HashSet<string> defined)
    {
        var node = new Node(proto, opset, _constants, _problems);
        foreach (var input in proto.Input.Where(input => input.Length > 0 && !defined.Contains(input)))
        {
            node.Refuse($"reads '{input}', which nothing before it makes (the graph is cyclic, unsorted or incomplete)");
        }

        foreach (var output in proto.Output.Where(output => output.Length > 0 && !defined.Add(output)))
        {
            node.Refuse($"writes '{output}', which exists already");
        }

        var before = _problems.Count;
        if (proto.OpType == "BatchNormalization" && node.Int("spatial", 1) != 0 && Enumerable.Range(1, 4).All(input => node.Constant(input) is not null))
        {
            if (Trained(node) && Site(node, proto) is { } site)
            {
                _nodes.Add(new CompiledNode(proto, node, null, site));
            }

            return;
        }

        if (OperatorRegistry.Compile(node) is not { } kernel)
        {
            return;
        }

        if (_problems.Count == before && _problems.Count == 0 && proto.Input.All(input => input.Length == 0 || _constants.ContainsKey(input)))
        {
            Fold(proto, node, kernel);
            return;
        }

        _nodes.Add(new CompiledNode(proto, node, kernel, null));
    }

    // What depends on constants alone is computed now.
    private void Fold(NodeProto proto, Node node, Kernel kernel)
    {
        try
        {
            Tensor?[] inputs = [.. proto.Input.Select(input => input.Length == 0 ? null : _constants[input])];
            if (_folded + SizeLimit.Elements(node, inputs) > MaxFoldedElements)
            {
                node.Refuse($"would be a constant of {SizeLimit.Elements(node, inputs):N0} values; constants computed at load may have {MaxFoldedElements:N0} in all");
                return;
            }

            var results = kernel(inputs);
            for (var i = 0; i < proto.Output.Count; i++)
            {
                _constants[proto.Output[i]] = results[i];
                _folded += results[i].numel();
            }
        }
        catch (Exception e) when (e is not OutOfMemoryException)
        {
            node.Refuse($"can't be computed from its constants ({e.GetType().Name})");
        }
    }

    private static bool Trained(Node node)
    {
        if (node.Int("training_mode", 0) != 0 || node.Outputs > 1)
        {
            node.Refuse("is in training mode; export with model.eval() and training=torch.onnx.TrainingMode.PRESERVE");
            return false;
        }

        return true;
    }

    private NormalizationSite? Site(Node node, NodeProto proto)
    {
        var index = _nodes.Count(other => other.Site is not null);
        var parameters = new float[4][];
        for (var i = 0; i < 4; i++)
        {
            parameters[i] = node.Constant(i + 1)!.Singles();
        }

        if (parameters.Any(parameter => parameter.Length != parameters[0].Length))
        {
            node.Refuse($"its parameters have {string.Join(", ", parameters.Select(parameter => parameter.Length))} values; all need one a channel");
            return null;
        }

        if (ChannelsBefore(proto.Input[0]) is { } channels && channels != parameters[0].Length)
        {
            node.Refuse($"its parameters have {parameters[0].Length} values, its input '{proto.Input[0]}' has {channels} channels");
            return null;
        }

        if (parameters[3].Any(variance => !(variance >= 0)) || parameters.Any(parameter => parameter.Any(value => !float.IsFinite(value))))
        {
            node.Refuse("its statistics are not finite, or a variance is negative");
            return null;
        }

        // PyTorch's name of the module; exporters without names leave the node's.
        var name = proto.Input[1].EndsWith(".weight", StringComparison.Ordinal) ? proto.Input[1][..^".weight".Length] : node.Name;
        return new NormalizationSite(
            index,
            Unique(name),
            node.Float("epsilon", 1e-5f),
            1 - node.Float("momentum", 0.9f),
            parameters[0],
            parameters[1],
            parameters[2],
            parameters[3]);
    }

    private string Unique(string name)
    {
        var unique = name;
        for (var i = 2; !_siteNames.Add(unique); i++)
        {
            unique = $"{name}#{i}";
        }

        return unique;
    }

    // Splits the convolutions where a virtual site is wanted: they write a value of their own, the site writes theirs. Names do not depend on which are wanted.
    private List<NormalizationSite> PlaceVirtualSites(Func<NormalizationSite, NormalizationSite?>? choose)
    {
        var finder = new VirtualSiteFinder([.. _nodes.Select(node => node.Proto)], [.. _graph.Output.Select(output => output.Name)], _constants.GetValueOrDefault);
        var (places, nodes, sites) = (new List<NormalizationSite>(), new List<CompiledNode>(), 0);
        foreach (var node in _nodes)
        {
            if (node.Site is { } own)
            {
                nodes.Add(node with { Site = own with { Index = sites++ } });
                continue;
            }

            if (!finder.IsSite(node.Proto) || Channels(node.View) is not { } channels)
            {
                nodes.Add(node);
                continue;
            }

            var place = NormalizationSite.Virtual(
                places.Count,
                Unique(node.View.Name),
                new float[channels],
                [.. Enumerable.Repeat(1f, (int)channels)],
                Bias(node.View, (int)channels));
            places.Add(place);
            if (choose?.Invoke(place) is not { } chosen)
            {
                nodes.Add(node);
                continue;
            }

            var split = node.Proto.Clone();
            var output = split.Output[0];
            split.Output[0] = $"{output}\nas convolved";
            _uses[split.Output[0]] = 1;
            nodes.Add(node with { Proto = split });
            nodes.Add(new CompiledNode(
                new NodeProto { OpType = "VirtualSite", Name = place.Name, Input = { split.Output[0] }, Output = { output } },
                node.View,
                null,
                chosen with { Index = sites++ }));
        }

        _nodes.Clear();
        _nodes.AddRange(nodes);
        return places;
    }

    private static float[] Bias(Node convolution, int channels) =>
        convolution.HasInput(2) && convolution.Constant(2)?.Singles() is { } bias && bias.Length == channels ? bias : new float[channels];

    // Channels of a value as far as the weights of the node that makes it tell.
    private long? ChannelsBefore(string value)
    {
        return _nodes.LastOrDefault(node => node.Proto.Output.Contains(value))?.View is { } producer ? Channels(producer) : null;
    }

    private static long? Channels(Node producer)
    {
        if (producer.Constant(1)?.shape is not { Length: >= 2 } weight)
        {
            return null;
        }

        return producer.Type switch
        {
            "Conv" => weight[0],
            "ConvTranspose" => weight[1] * producer.Int("group", 1),
            "Gemm" => producer.Int("transB", 0) != 0 ? weight[0] : weight[1],
            _ => null,
        };
    }

    // A site and what can be done in its pass: the sum with a shortcut, then a clamp.
    private Dictionary<CompiledNode, Chain> Chains(Dictionary<string, CompiledNode> producers)
    {
        var consumers = new Dictionary<string, CompiledNode>(StringComparer.Ordinal);
        foreach (var node in _nodes)
        {
            foreach (var input in node.Proto.Input)
            {
                consumers[input] = node;
            }
        }

        var order = _nodes.Select((node, index) => (node, index)).ToDictionary(pair => pair.node, pair => pair.index);
        var chains = new Dictionary<CompiledNode, Chain>();
        var takenAdds = new HashSet<CompiledNode>();
        foreach (var site in _nodes.Where(node => node.Site is not null))
        {
            var chain = new Chain(site);
            var next = Next(site);
            if (next is { Proto.OpType: "Add" } && !takenAdds.Contains(next))
            {
                var other = next.Proto.Input.FirstOrDefault(input => input != chain.Output);
                var later = other is not null && producers.TryGetValue(other, out var producer) && producer.Site is not null && order[producer] > order[site] && _uses[other] == 1;
                if (other is not null && !_constants.ContainsKey(other) && !later)
                {
                    takenAdds.Add(next);
                    chain.Residual = other;
                    chain.Take(next);
                    next = Next(next);
                }
            }

            if (next is not null && Clamp(next) is { } epilogue)
            {
                chain.Epilogue = epilogue;
                chain.Take(next);
            }

            chains[site] = chain;
        }

        return chains;

        CompiledNode? Next(CompiledNode node) =>
            _uses.GetValueOrDefault(node.Proto.Output[0]) == 1 && consumers.TryGetValue(node.Proto.Output[0], out var consumer) ? consumer : null;
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

    private bool Foldable(Dictionary<string, CompiledNode> producers, CompiledNode site) =>
        site.Site!.Kind == SiteKind.Virtual
        || (producers.TryGetValue(site.Proto.Input[0], out var producer)
            && producer.Proto.OpType == "Conv"
            && _uses[site.Proto.Input[0]] == 1
            && producer.View.Constant(1) is not null
            && (producer.Proto.Input.Count < 3 || producer.View.Constant(2) is not null));

    private Instruction Emit(Chain chain, Dictionary<string, CompiledNode> producers, Dictionary<int, Tensor> constants, bool folds)
    {
        var site = chain.Site.Site!;
        var input = chain.Site.Proto.Input[0];
        var residual = chain.Residual is null ? -1 : Slot(chain.Residual);
        var output = Slot(chain.Output);
        if (!folds)
        {
            return new SiteInstruction(site, Slot(input), residual, output, chain.Epilogue);
        }

        int[] sources = residual < 0 ? [] : [residual];
        if (site.Kind == SiteKind.Virtual)
        {
            // At its source statistics it is the identity: the convolution as it is, and what was fused behind the site.
            return AsConvolved(producers[input], constants, sources, output, residual, chain.Epilogue);
        }

        if (Foldable(producers, chain.Site))
        {
            var convolution = producers[input];
            var (weight, bias) = FoldInto(convolution, site);
            if (Pack(convolution, weight, bias) is { } packed)
            {
                return new KernelInstruction(
                    arguments => [packed.Run(arguments[0]!)],
                    [Slot(convolution.Proto.Input[0]), .. sources],
                    [output],
                    makesMemory: true,
                    residual,
                    chain.Epilogue);
            }

            var kernel = convolution.Kernel!;
            int[] slots = [Slot(convolution.Proto.Input[0]), New(Place(ChannelsLast(weight)), constants), New(bias, constants)];
            return new KernelInstruction(arguments => kernel(arguments.AsSpan(0, 3).ToArray()), [.. slots, .. sources], [output], makesMemory: true, residual, chain.Epilogue);
        }

        var (mean, variance, gamma, beta) = (Place(tensor(site.Mean)), Place(tensor(site.Variance)), Place(tensor(site.Weight)), Place(tensor(site.Bias)));
        return new KernelInstruction(
            arguments => [nn.functional.batch_norm(arguments[0]!, mean, variance, gamma, beta, training: false, eps: site.Epsilon)],
            [Slot(input), .. sources],
            [output],
            makesMemory: true,
            residual,
            chain.Epilogue);
    }

    private (Tensor Weight, Tensor Bias) FoldInto(CompiledNode convolution, NormalizationSite site)
    {
        using var scope = NewDisposeScope();
        var weight = _constants[convolution.Proto.Input[1]];
        var scale = tensor(site.Weight) / tensor(site.Variance).Plus(site.Epsilon).sqrt();
        long[] perFilter = [-1, .. Enumerable.Repeat(1L, (int)weight.dim() - 1)];
        var own = convolution.Proto.Input.Count > 2 ? _constants[convolution.Proto.Input[2]] : zeros(site.Channels);
        var folded = weight * scale.reshape(perFilter);
        var bias = ((own - tensor(site.Mean)) * scale).Plus(tensor(site.Bias));
        return (folded.MoveToOuterDisposeScope(), Place(bias));
    }

    private KernelInstruction? Packed(CompiledNode node) => PackedAsItIs(node) is { } packed
        ? new KernelInstruction(arguments => [packed.Run(arguments[0]!)], [Slot(node.Proto.Input[0])], [Slot(node.Proto.Output[0])], makesMemory: true)
        : null;

    private KernelInstruction AsConvolved(CompiledNode convolution, Dictionary<int, Tensor> constants, int[] sources, int output, int residual, Epilogue epilogue)
    {
        if (PackedAsItIs(convolution) is { } packed)
        {
            return new KernelInstruction(arguments => [packed.Run(arguments[0]!)], [Slot(convolution.Proto.Input[0]), .. sources], [output], makesMemory: true, residual, epilogue);
        }

        var (kernel, slots) = (convolution.Kernel!, Relaid(convolution, constants));
        return new KernelInstruction(arguments => kernel(arguments.AsSpan(0, slots.Length).ToArray()), [.. slots, .. sources], [output], makesMemory: true, residual, epilogue);
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
            _packed.Add(node, packed = Pack(node, weight, node.View.Constant(2) is { } bias ? Place(bias) : null));
        }

        return packed;
    }

    private PackedConvolution? Pack(CompiledNode node, Tensor weight, Tensor? bias) =>
        ConvolutionScript.Supported && _device.type == DeviceType.CPU && _precision == ScalarType.Float32 && weight.dtype == ScalarType.Float32
        && (bias is null || (bias.dim() == 1 && bias.shape[0] == weight.shape[0])) && ConvolutionGeometry.Of(node.View) is { } geometry
            ? _convolutions.Add(geometry, node.Kernel!, ChannelsLast(weight), bias)
            : null;

    // Convolutions read their weights channels-last, as their activations lie.
    private int[] Relaid(CompiledNode node, Dictionary<int, Tensor> constants)
    {
        int[] slots = [.. node.Proto.Input.Select(input => input.Length == 0 ? -1 : Slot(input))];
        if (node.Proto.OpType == "Conv" && node.View.Constant(1) is { } weight && weight.dim() == 4)
        {
            var relaid = Slot($"{node.Proto.Input[1]}\nchannels_last");
            if (!constants.ContainsKey(relaid))
            {
                var name = $"{node.Proto.Input[1]}\nchannels_last";
                Own(_constants[name] = ChannelsLast(_constants[node.Proto.Input[1]]));
                constants[relaid] = Place(_constants[name]);
            }

            slots[1] = relaid;
        }

        return slots;
    }

    private static Tensor ChannelsLast(Tensor weight) =>
        weight.dim() == 4 ? weight.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : weight;

    private void PlanDeaths(List<Instruction> instructions, Dictionary<int, Tensor> constants)
    {
        var alive = OutputSlots.ToHashSet();
        for (var i = instructions.Count - 1; i >= 0; i--)
        {
            var instruction = instructions[i];
            var dying = instruction.Inputs.Concat(instruction.Outputs).Where(slot => slot >= 0 && !constants.ContainsKey(slot) && !alive.Contains(slot)).Distinct().ToArray();
            instruction.Dying = dying;
            alive.UnionWith(dying);
        }
    }

    // The model's own constants stay in host memory, where compiling reads them; so do shape values, which operators read.
    private Tensor Place(Tensor constant)
    {
        if (!constant.is_floating_point())
        {
            return Own(constant);
        }

        if (!_placed.TryGetValue(constant, out var placed))
        {
            var type = constant.dtype == ScalarType.Float32 ? _precision : constant.dtype;
            placed = _device.type == DeviceType.CPU && constant.dtype == type ? constant : constant.to(type, _device, copy: true);
            _placed.Add(constant, Own(placed));
        }

        return placed;
    }

    private int New(Tensor constant, Dictionary<int, Tensor> constants)
    {
        constants[_slotCount] = constant;
        return _slotCount++;
    }

    private Tensor Own(Tensor constant)
    {
        if (_owned.Add(constant))
        {
            constant.DetachFromDisposeScope();
        }

        return constant;
    }

    private int OutputSlot(string name) => name.Length == 0 ? -1 : Slot(name);

    private int Slot(string name)
    {
        if (!_slots.TryGetValue(name, out var slot))
        {
            slot = _slotCount++;
            _slots.Add(name, slot);
        }

        return slot;
    }

    private static GraphValue Describe(ValueInfoProto value) => new(
        value.Name,
        [.. value.Type?.TensorType?.Shape?.Dim.Select(dim => dim.ValueCase == TensorShapeProto.Types.Dimension.ValueOneofCase.DimValue && dim.DimValue > 0 ? dim.DimValue : -1) ?? []])
    {
        ElementType = ((TensorProto.Types.DataType)(value.Type?.TensorType?.ElemType ?? 0)).ToString().ToUpperInvariant(),
    };

    private sealed record CompiledNode(NodeProto Proto, Node View, Kernel? Kernel, NormalizationSite? Site);

    private sealed class Chain
    {
        public Chain(CompiledNode site)
        {
            Site = site;
            Last = site;
            Members = [site];
        }

        public CompiledNode Site { get; }

        public CompiledNode Last { get; private set; }

        public List<CompiledNode> Members { get; }

        public string Output => Last.Proto.Output[0];

        public string? Residual { get; set; }

        public Epilogue Epilogue { get; set; } = Epilogue.None;

        public void Take(CompiledNode node)
        {
            Members.Add(node);
            Last = node;
        }
    }
}
