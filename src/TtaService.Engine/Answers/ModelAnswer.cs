using TtaService.Engine.Execution;

namespace TtaService.Engine.Answers;

/// <summary>What a model answers to a frame.</summary>
public enum AnswerKind
{
    /// <summary>Its outputs as they are.</summary>
    Raw,

    /// <summary>Classes with probabilities.</summary>
    Classification,

    /// <summary>Boxes with a class and a score.</summary>
    Detection,

    /// <summary>Boxes with points in them.</summary>
    Keypoints,

    /// <summary>A class a pixel.</summary>
    Segmentation,

    /// <summary>A vector of length 1.</summary>
    Embedding,
}

/// <summary>What a model answers and the outputs that it is read from. Immutable.</summary>
/// <param name="Kind">The sort.</param>
/// <param name="Reason">For people: why it was decided so.</param>
/// <param name="Outputs">All of the model's, each with its own kind.</param>
public sealed record ModelAnswer(AnswerKind Kind, string Reason, IReadOnlyList<ModelOutput> Outputs)
{
    /// <summary>How many classes there are; null where the outputs do not tell.</summary>
    public int? Classes { get; init; }

    /// <summary>How boxes are read, defaults and what was found out filled in; meaningless for other kinds.</summary>
    public DetectionSettings Detection { get; init; } = new();

    /// <summary>The output of a kind; null when there is none.</summary>
    public ModelOutput? Find(OutputKind kind) => Outputs.FirstOrDefault(output => output.Kind == kind);

    /// <summary>Whether boxes are answered, with or without points.</summary>
    public bool HasBoxes => Kind is AnswerKind.Detection or AnswerKind.Keypoints;
}
