using System.Runtime.InteropServices;
using TtaService.Engine.Calibration;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>A network as exporters write it by default: BatchNormalization folded into the convolutions before it.</summary>
internal sealed class FoldedModel
{
    private FoldedModel(ModelProto model) => Model = model;

    public ModelProto Model { get; }

    /// <summary>By the convolution's name, the beta and gamma that were folded into it: mean and, but for its sign, deviation of its output on source frames.</summary>
    public Dictionary<string, (float[] Mean, float[] Deviation)> Statistics { get; } = [];

    /// <summary>Folds what can be, which ONNX Runtime and PyTorch do, too: where the convolution feeds nothing else.</summary>
    /// <param name="twin">The network with its nodes.</param>
    /// <param name="isFolded">By place among the nodes that can be folded: all when null.</param>
    public static FoldedModel Of(ModelProto twin, Func<int, bool>? isFolded = null)
    {
        var folded = new FoldedModel(twin.Clone());
        var graph = folded.Model.Graph;
        var place = 0;
        foreach (var norm in graph.Node.Where(node => node.OpType == "BatchNormalization").ToList())
        {
            var conv = graph.Node.FirstOrDefault(node => node.OpType == "Conv" && node.Output[0] == norm.Input[0]);
            if (conv is null || graph.Node.Count(node => node.Input.Contains(norm.Input[0])) != 1 || isFolded?.Invoke(place++) == false)
            {
                continue;
            }

            var (gamma, beta, mean, variance) = (folded.Values(norm.Input[1]), folded.Values(norm.Input[2]), folded.Values(norm.Input[3]), folded.Values(norm.Input[4]));
            var epsilon = norm.Attribute.FirstOrDefault(attribute => attribute.Name == "epsilon")?.F ?? 1e-5f;
            var scale = gamma.Zip(variance, (g, v) => g / Math.Sqrt(v + epsilon)).ToArray();
            var weight = folded.Values(conv.Input[1]);
            var own = conv.Input.Count > 2 ? folded.Values(conv.Input[2]) : new float[gamma.Length];
            var perFilter = weight.Length / gamma.Length;
            var shape = folded.Initializer(conv.Input[1]).Dims.ToArray();
            conv.Input[1] = folded.Add($"{conv.Name}.folded_weight", shape, [.. weight.Select((value, i) => (float)(value * scale[i / perFilter]))]);
            var bias = folded.Add($"{conv.Name}.folded_bias", [gamma.Length], [.. beta.Select((value, c) => (float)(value + ((own[c] - (double)mean[c]) * scale[c])))]);
            if (conv.Input.Count > 2)
            {
                conv.Input[2] = bias;
            }
            else
            {
                conv.Input.Add(bias);
            }

            conv.Output[0] = norm.Output[0];
            graph.Node.Remove(norm);
            folded.Statistics.Add(conv.Name, (beta, Array.ConvertAll(gamma, Math.Abs)));
        }

        return folded;
    }

    /// <summary>The network with each BatchNormalization of a map as a multiplication and an addition, and what its sites see on source frames: the convolution
    /// before it, or the sum.</summary>
    public static FoldedModel InParts(ModelProto twin)
    {
        var parted = new FoldedModel(twin.Clone());
        var graph = parted.Model.Graph;
        var vectors = graph.Node.Where(node => node.OpType == "Gemm").Select(node => node.Output[0]).ToHashSet();
        foreach (var norm in graph.Node.Where(node => node.OpType == "BatchNormalization" && !vectors.Contains(node.Input[0])).ToList())
        {
            var (gamma, beta, mean, variance) = (parted.Values(norm.Input[1]), parted.Values(norm.Input[2]), parted.Values(norm.Input[3]), parted.Values(norm.Input[4]));
            var epsilon = norm.Attribute.FirstOrDefault(attribute => attribute.Name == "epsilon")?.F ?? 1e-5f;
            float[] deviation = [.. variance.Select(value => MathF.Sqrt(value + epsilon))];
            float[] scale = [.. gamma.Zip(deviation, (g, s) => g / s)];
            long[] shape = [1, gamma.Length, 1, 1];
            var at = graph.Node.IndexOf(norm);
            var (input, output) = (norm.Input[0], norm.Output[0]);
            graph.Node[at] = OnnxFiles.Node("Mul", [input, parted.Add($"{output}.scale", shape, scale)], $"{output}.scaled");
            var shift = parted.Add($"{output}.shift", shape, [.. beta.Select((value, c) => value - (mean[c] * scale[c]))]);
            var sum = OnnxFiles.Node("Add", [$"{output}.scaled", shift], output);
            graph.Node.Insert(at + 1, sum);
            var own = graph.Node.Count(other => other.Input.Contains(input)) == 1 ? graph.Node.FirstOrDefault(node => node.OpType == "Conv" && node.Output[0] == input) : null;
            parted.Statistics.Add(own?.Name ?? sum.Name, own is null ? (beta, Array.ConvertAll(gamma, Math.Abs)) : (mean, deviation));
        }

        return parted;
    }

    /// <summary>A calibration that says of the folded convolutions what the network itself says: mean beta, deviation |gamma|.</summary>
    /// <summary>A network of the same answers whose convolutions have no bias, and whose BatchNormalization sees variance 1 at every channel.</summary>
    public ModelProto Unfolded()
    {
        var copy = new FoldedModel(Model.Clone());
        foreach (var (name, (beta, gamma)) in Statistics)
        {
            var at = copy.Model.Graph.Node.ToList().FindIndex(node => node.Name == name);
            var conv = copy.Model.Graph.Node[at];
            var (channels, deviation) = (new long[] { beta.Length }, Array.ConvertAll(gamma, Math.Abs));
            var (weight, bias, shape) = (copy.Values(conv.Input[1]), copy.Values(conv.Input[2]), copy.Initializer(conv.Input[1]).Dims.ToArray());
            var perFilter = weight.Length / beta.Length;
            conv.Input[1] = copy.Add($"{name}.unfolded_weight", shape, [.. weight.Select((value, i) => value / deviation[i / perFilter])]);
            conv.Input[2] = copy.Add($"{name}.unfolded_bias", channels, new float[beta.Length]);
            var norm = new NodeProto { OpType = "BatchNormalization", Name = $"{name}.norm", Output = { conv.Output[0] } };
            conv.Output[0] += ".convolved";
            norm.Input.Add(conv.Output[0]);
            norm.Input.Add(copy.Add($"{name}.norm.weight", channels, Array.ConvertAll(deviation, value => value * MathF.Sqrt(1 + 1e-5f))));
            norm.Input.Add(copy.Add($"{name}.norm.bias", channels, beta));
            norm.Input.Add(copy.Add($"{name}.norm.mean", channels, [.. beta.Select((shift, c) => (shift - bias[c]) / deviation[c])]));
            norm.Input.Add(copy.Add($"{name}.norm.variance", channels, Array.ConvertAll(beta, _ => 1f)));
            copy.Model.Graph.Node.Insert(at + 1, norm);
        }

        return copy.Model;
    }

    public ModelCalibration Calibration(string digest, int classes) => new()
    {
        Model = digest,
        Frames = Calibrator.MinFrames,
        Created = default,
        Prior = [.. Enumerable.Repeat(1f / classes, classes)],
        Entropy = new float[ModelCalibration.EntropyQuantiles],
        Sites = Statistics.ToDictionary(site => site.Key, site => new SiteCalibration
        {
            Mean = site.Value.Mean,
            MeanVariance = [.. site.Value.Deviation.Select(_ => SiteCalibration.LeastVariance)],
            Variance = [.. site.Value.Deviation.Select(deviation => deviation * deviation)],
            VarianceVariance = [.. site.Value.Deviation.Select(_ => 1f)],
            ClassMean = [],
            ClassVariance = [],
            ClassShare = 0,
            ClassDistance = 0,
            FrameDistance = 1,
        }),
    };

    private TensorProto Initializer(string name)
    {
        // Exporters share equal parameters by a copy of one of them.
        while (Model.Graph.Node.FirstOrDefault(node => node.OpType == "Identity" && node.Output[0] == name) is { } copy)
        {
            name = copy.Input[0];
        }

        return Model.Graph.Initializer.Single(initializer => initializer.Name == name);
    }

    private float[] Values(string name) => Initializer(name) is var tensor && tensor.RawData.Length > 0
        ? MemoryMarshal.Cast<byte, float>(tensor.RawData.Span).ToArray()
        : [.. tensor.FloatData];

    private string Add(string name, long[] shape, float[] values)
    {
        Model.Graph.Initializer.Add(OnnxFiles.Floats(name, shape, values));
        return name;
    }
}
