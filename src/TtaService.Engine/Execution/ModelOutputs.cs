using System.Globalization;
using System.Numerics.Tensors;
using TtaService.Engine.Answers;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Execution;

/// <summary>Decides what a model's outputs are: from what was declared, else from how the graph ends, else from the numbers of a first pass.</summary>
internal static class ModelOutputs
{
    // Of the sum of probabilities, which float16 graphs round.
    private const float SumTolerance = 5e-3f;

    /// <summary>What the graph alone tells.</summary>
    /// <exception cref="ModelLoadException">What is declared names no output, or contradicts how the graph ends.</exception>
    public static ModelAnswer FromGraph(string path, IReadOnlyDictionary<string, OutputKind> declared, AnswerHints hints)
    {
        var outputs = hints.Graph;
        if (declared.Keys.FirstOrDefault(name => outputs.All(output => output.Name != name)) is { } unknown)
        {
            throw new ModelLoadException($"{path}: 'outputs' names '{unknown}', the graph's outputs are {string.Join(", ", outputs.Select(output => output.Name))}");
        }

        ModelOutput[] known = [.. outputs.Select((output, index) => declared.TryGetValue(output.Name, out var kind)
            ? Declared(path, index, output, kind)
            : new ModelOutput(index, output.Name, output.Shape, FromTail(output), Reason(output)))];
        // A list of whole numbers is a graph's that answers one frame, without an axis for it.
        var isOfOneFrame = outputs.Any(output => output is { ElementType: "INT64" or "INT32", Shape: [_] });
        return AnswerDecision.Decide(isOfOneFrame ? Array.ConvertAll(known, output => output with { Shape = [-1, .. output.Shape] }) : known, hints, null);
    }

    /// <summary>Compares what was decided with the outputs of passes of one frame each, and takes their shapes.</summary>
    /// <exception cref="ModelLoadException">Declared probabilities are none, an output's shape is not that of its kind, or there are not as many classes as labels.</exception>
    public static ModelAnswer Settle(string path, IReadOnlyList<ModelOutput> outputs, IReadOnlyList<IReadOnlyList<OutputTensor>> passes, AnswerHints hints)
    {
        var settled = outputs.Select(output => Settle(path, output, [.. passes.Select(pass => pass[output.Index])])).ToArray();
        var answer = AnswerDecision.Decide(settled, hints, passes);
        AnswerShapes.Check(path, answer);
        if (hints.Labels is { } count && answer.Kind is AnswerKind.Raw or AnswerKind.Embedding or AnswerKind.Classification && Scores(answer.Outputs, count) is null)
        {
            throw new ModelLoadException($"{path}: there are {hints.Labels} labels, but no output has {hints.Labels} classes: the graph gives {Shapes(answer)}; "
                + "give a label for each class of the output, in its order");
        }

        return hints.Labels is { } labels && answer.Classes is { } classes && classes != labels
            ? throw new ModelLoadException($"{path}: there are {labels} labels, but the graph answers {classes} classes ({answer.Reason}): it gives {Shapes(answer)}; "
                + "give a label for each class of the output, in its order")
            : answer;
    }

    private static string Shapes(ModelAnswer answer) => string.Join(", ", answer.Outputs.Select(output =>
        $"{output.Name} [{string.Join(',', output.Shape.Select((extent, axis) => axis == 0 ? "N" : extent.ToString(CultureInfo.InvariantCulture)))}]"));

    /// <summary>The output that predictions are read from: the first with class scores, of as many classes as there are labels when there are any.</summary>
    public static ModelOutput? Scores(IReadOnlyList<ModelOutput> outputs, int? labels) =>
        outputs.FirstOrDefault(output => output.Classes is { } classes && (labels is null || labels == classes));

    private static ModelOutput Declared(string path, int index, GraphValue output, OutputKind kind)
    {
        var ending = FromTail(output);
        var contradicts = output.Activation is not null && ending != kind && kind != OutputKind.Raw
            && kind <= OutputKind.MultiLabelProbabilities && !(ending == OutputKind.Raw || (output.Activation == "Sigmoid" && kind == OutputKind.Probabilities));
        return contradicts
            ? throw new ModelLoadException($"{path}: 'outputs' says that {output.Name} holds {Words(kind)}, but {Reason(output)}, which makes them {Words(ending)}; leave "
                + "the kind out, or export without that node")
            : new ModelOutput(index, output.Name, output.Shape, kind, "model.json says so") { IsDeclared = true };
    }

    private static OutputKind FromTail(GraphValue output) => output.Activation switch
    {
        "Softmax" => OutputKind.Probabilities,
        "LogSoftmax" => OutputKind.LogProbabilities,
        "Sigmoid" => OutputKind.MultiLabelProbabilities,
        // Whole numbers are indices.
        null when output.ElementType is "INT64" or "INT32" or "BOOL" => OutputKind.Raw,
        null => output.Shape.Count < 2 || IsClassScores(output.Shape) ? OutputKind.Logits : OutputKind.Raw,
        _ => OutputKind.Raw,
    };

    private static string Reason(GraphValue output) => output.Activation is { } activation ? $"the graph ends in {activation}" : "the graph ends in no activation";

    private static bool IsClassScores(IReadOnlyList<long> shape) => shape.Count >= 2 && shape.Skip(2).All(extent => extent == 1);

    private static ModelOutput Settle(string path, ModelOutput output, OutputTensor[] given)
    {
        // What differs from frame to frame, as the number of boxes, is nobody's extent; nor is none of them.
        long[] shape = [-1, .. given[0].Shape.Skip(1).Select((extent, axis) =>
            extent > 0 && Array.TrueForAll(given, tensor => Agrees(tensor, axis + 1, extent)) ? (long)extent : -1)];
        if (output.Kind == OutputKind.Logits && !IsClassScores(shape) && !output.IsDeclared)
        {
            return output with { Shape = shape, Kind = OutputKind.Raw };
        }

        var settled = output with { Shape = shape };
        if (settled.Classes is not { } classes)
        {
            return settled;
        }

        var looksLike = Array.TrueForAll(given, tensor => IsDistribution(tensor.Values));
        if (output.Kind == OutputKind.Logits && !output.IsDeclared && classes > 1 && looksLike)
        {
            return settled with { Kind = OutputKind.Probabilities, Reason = "its numbers sum to 1 for every frame" };
        }

        var fits = output.Kind switch
        {
            OutputKind.Probabilities => looksLike,
            OutputKind.LogProbabilities => Array.TrueForAll(given, tensor => IsDistribution(Exp(tensor.Values))),
            OutputKind.MultiLabelProbabilities => Array.TrueForAll(given, tensor => Array.TrueForAll(tensor.Values, value => value is >= -SumTolerance and <= 1 + SumTolerance)),
            _ => true,
        };
        return fits
            ? settled
            : throw new ModelLoadException(string.Create(CultureInfo.InvariantCulture, $"{path}: output {output.Name} should hold {Words(output.Kind)} ({output.Reason}), "
                + $"but a first pass gave values from {given.Min(tensor => tensor.Values.Min()):g4} to {given.Max(tensor => tensor.Values.Max()):g4} with sum "
                + $"{given[0].Values.Sum():g4}; set its kind in 'outputs' of model.json"));
    }

    private static bool Agrees(OutputTensor tensor, int axis, int extent) => tensor.Shape.Length > axis && tensor.Shape[axis] == extent;

    private static bool IsDistribution(float[] values) =>
        Array.TrueForAll(values, value => value >= -SumTolerance) && Math.Abs(TensorPrimitives.Sum<float>(values) - 1) <= SumTolerance;

    private static float[] Exp(float[] values) => Array.ConvertAll(values, MathF.Exp);

    private static string Words(OutputKind kind) => kind switch
    {
        OutputKind.Logits => "logits",
        OutputKind.Probabilities => "probabilities that sum to 1",
        OutputKind.LogProbabilities => "logarithms of probabilities",
        OutputKind.MultiLabelLogits => "multi-label logits",
        OutputKind.MultiLabelProbabilities => "probabilities of a label each",
        _ => "raw values",
    };
}
