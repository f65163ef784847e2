using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Compiling;
using TtaService.Engine.Onnx.Rewriting;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>An input or output of a model.</summary>
/// <param name="Name">Its name in the graph.</param>
/// <param name="Shape">Extents, -1 for a dynamic axis; empty when the graph does not say.</param>
internal sealed record GraphValue(string Name, IReadOnlyList<long> Shape)
{
    /// <summary>The declared element type by its name in ONNX: FLOAT, UINT8, …; UNDEFINED when the graph does not say.</summary>
    public string ElementType { get; init; } = "UNDEFINED";

    /// <summary>Of an output: the operator that decides what its numbers are (Softmax, LogSoftmax, Sigmoid, ArgMax, …); null when it is an ordinary one.</summary>
    public string? Activation { get; init; }

    /// <summary>Of an output that one layer computes from a vector a frame: how long that is; 0 of another.</summary>
    public int Features { get; init; }
}

/// <summary>An ONNX graph, compiled once to a list of instructions over tensors. Not thread-safe.</summary>
internal sealed class ModelGraph : IDisposable
{
    private readonly GraphCompiler _compiler;
    private readonly Program _adaptive;
    private readonly Lazy<Program> _folded;
    private readonly Lazy<Program> _differentiable;
    private Tensor?[] _values = [];
    private readonly int[] _inputs;
    private readonly int[] _outputs;
    private readonly int[] _features;

    private ModelGraph(string digest, IReadOnlyDictionary<string, string> metadata, GraphCompiler compiler)
    {
        Digest = digest;
        Inputs = compiler.Inputs;
        Outputs = compiler.Outputs;
        Metadata = metadata;
        Convolutions = compiler.ConvolutionCount;
        Sites = compiler.Sites;
        VirtualSites = compiler.VirtualSites;
        _compiler = compiler;
        _inputs = compiler.InputSlots;
        _outputs = compiler.OutputSlots;
        _features = compiler.FeatureSlots;
        _adaptive = compiler.Compile(ProgramForm.Adaptive);
        _folded = new Lazy<Program>(() => compiler.Compile(ProgramForm.Folded));
        _differentiable = new Lazy<Program>(() => compiler.Compile(ProgramForm.Differentiable));
    }

    /// <summary>SHA-256 of the ONNX file, lower-case hex.</summary>
    public string Digest { get; }

    /// <summary>The graph's inputs, initializers left out.</summary>
    public IReadOnlyList<GraphValue> Inputs { get; }

    /// <summary>The graph's outputs.</summary>
    public IReadOnlyList<GraphValue> Outputs { get; }

    /// <summary>How many Conv and ConvTranspose nodes there are.</summary>
    public int Convolutions { get; }

    /// <summary>What the exporter wrote into the file beside the graph (metadata_props).</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>The BatchNormalization nodes, and the virtual sites that were chosen, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites { get; }

    /// <summary>Where virtual sites can be, chosen or not, with no statistics of their own (mean 0, variance 1), counted by themselves. See
    /// <see cref="VirtualSiteFinder"/>.</summary>
    public IReadOnlyList<NormalizationSite> VirtualSites { get; }

    /// <summary>While set, frames are of no size that will come again, so that nothing is laid out for it.</summary>
    internal bool IsTrial
    {
        set => _compiler.Packed.Deferred = value;
    }

    /// <summary>Reads and compiles a model.</summary>
    /// <param name="path">The ONNX file.</param>
    /// <param name="device">Where it runs.</param>
    /// <param name="precision">Of weights and activations.</param>
    /// <param name="chooseVirtual">Given a place where a virtual site can be, the site with its source statistics, or null to leave the graph as it is there; null leaves all
    /// out.</param>
    /// <exception cref="ModelLoadException">The message lists everything that can't be run, with node names.</exception>
    public static ModelGraph Load(string path, Device device, ScalarType precision = ScalarType.Float32, Func<NormalizationSite, NormalizationSite?>? chooseVirtual = null)
    {
        var (model, opset, digest) = OnnxReader.Read(path);
        GraphRewriter.Rewrite(path, model, opset);
        // What compiling leaves behind besides the constants goes with the scope.
        using var scope = NewDisposeScope();
        using var mode = no_grad();
        try
        {
            return new ModelGraph(digest, Properties(model), new GraphCompiler(path, model.Graph, opset, device, precision, chooseVirtual));
        }
        catch (Exception malformed) when (malformed is not (OutOfMemoryException or ModelLoadException))
        {
            throw new ModelLoadException($"{path} is malformed: {malformed.Message.Split('\n')[0]}", malformed);
        }
    }

    private static Dictionary<string, string> Properties(ModelProto model)
    {
        var properties = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (var property in model.MetadataProps)
        {
            properties[property.Key] = property.Value;
        }

        return properties;
    }

    /// <summary>Runs the graph. The caller holds a dispose scope; outputs belong to it, intermediates die at their last use.</summary>
    /// <param name="inputs">In the order of <see cref="Inputs"/>.</param>
    /// <param name="sites">Decides at the sites; null runs the source statistics, folded into the convolutions.</param>
    /// <param name="between">Runs behind every instruction, and may run this graph.</param>
    /// <param name="featuresOf">An output whose <see cref="GraphValue.Features"/> are given behind the outputs, too; null for none.</param>
    internal Tensor[] Run(IReadOnlyList<Tensor> inputs, ISiteNormalizer? sites, Action? between = null, int? featuresOf = null) =>
        Run(sites is null ? _folded.Value : _adaptive, inputs, sites, between, featuresOf);

    /// <summary>Runs the graph in torch operators that gradients pass through, with <see cref="Run(IReadOnlyList{Tensor}, ISiteNormalizer?, Action?, int?)"/>'s rules.</summary>
    /// <param name="inputs">No tensors of inference mode.</param>
    /// <param name="sites">Decides at the sites.</param>
    /// <param name="between">Runs behind every instruction, and may run this graph.</param>
    /// <param name="featuresOf">An output whose <see cref="GraphValue.Features"/> are given behind the outputs, too; null for none.</param>
    internal Tensor[] RunDifferentiable(IReadOnlyList<Tensor> inputs, ISiteNormalizer sites, Action? between = null, int? featuresOf = null) =>
        Run(_differentiable.Value, inputs, sites, between, featuresOf);

    /// <summary>Null when the gradient of an output reaches every chosen site that it depends on, else why not.</summary>
    internal string? WhyNotDifferentiable(string output, Func<NormalizationSite, bool> chosen) => _compiler.WhyNotDifferentiable(output, chosen);

    private Tensor[] Run(Program program, IReadOnlyList<Tensor> inputs, ISiteNormalizer? sites, Action? between, int? featuresOf)
    {
        // A run between two instructions of this one has slots of its own.
        (var values, _values) = (_values, []);
        if (values.Length < program.Constants.Length)
        {
            values = new Tensor?[program.Constants.Length];
        }

        program.Constants.CopyTo(values, 0);
        try
        {
            for (var i = 0; i < _inputs.Length; i++)
            {
                values[_inputs[i]] = inputs[i].alias();
            }

            foreach (var instruction in program.Instructions)
            {
                instruction.Run(values, sites);
                foreach (var slot in instruction.Dying)
                {
                    values[slot]?.Dispose();
                    values[slot] = null;
                }

                between?.Invoke();
            }

            var read = featuresOf is { } output ? _outputs.Append(_features[output]) : _outputs;
            return [.. read.Select(slot => values[slot]!.alias())];
        }
        finally
        {
            for (var slot = 0; slot < values.Length; slot++)
            {
                if (slot >= program.Constants.Length || program.Constants[slot] is null)
                {
                    values[slot]?.Dispose();
                }

                values[slot] = null;
            }

            _values = values;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _compiler.Dispose();
    }
}
