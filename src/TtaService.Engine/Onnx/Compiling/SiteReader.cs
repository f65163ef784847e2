using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Onnx.Wire;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>Reads BatchNormalization nodes as sites, and gives every site a name of its own.</summary>
internal sealed class SiteReader
{
    private readonly HashSet<string> _names = new(StringComparer.Ordinal);

    /// <summary>Whether a node is a site: one of a trained network whose parameters are constants, one a channel.</summary>
    public static bool IsSite(Node node) =>
        node.Type == "BatchNormalization" && node.Int("spatial", 1) != 0 && Enumerable.Range(1, 4).All(input => node.Constant(input) is not null);

    /// <summary>The site; null when the node was refused.</summary>
    /// <param name="node">The node.</param>
    /// <param name="proto">The same with its names.</param>
    /// <param name="index">Sites before it.</param>
    /// <param name="channels">Those of its input as far as they are known.</param>
    public NormalizationSite? Read(Node node, NodeProto proto, int index, long? channels)
    {
        if (node.Int("training_mode", 0) != 0 || node.Outputs > 1)
        {
            node.Refuse("is in training mode; export with model.eval() and training=torch.onnx.TrainingMode.PRESERVE");
            return null;
        }

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

        if (channels is { } given && given != parameters[0].Length)
        {
            node.Refuse($"its parameters have {parameters[0].Length} values, its input '{proto.Input[0]}' has {given} channels");
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

    /// <summary>The name, numbered where a site has it already.</summary>
    public string Unique(string name)
    {
        var unique = name;
        for (var i = 2; !_names.Add(unique); i++)
        {
            unique = $"{name}#{i}";
        }

        return unique;
    }
}
