using System.Text.Json.Serialization;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Streams;

/// <summary>A class with its probability.</summary>
/// <param name="Index">The class, from 0.</param>
/// <param name="Label">Its name; empty when the model has none.</param>
/// <param name="Probability">0 to 1.</param>
public readonly record struct ClassScore(int Index, string Label, float Probability);

/// <summary>A frame that was answered and not learned.</summary>
/// <param name="Frame">Its index in the request, from 0.</param>
/// <param name="Reason">Why.</param>
public readonly record struct UnlearnedFrame(int Frame, [property: JsonConverter(typeof(JsonStringEnumConverter<NotLearnedReason>))] NotLearnedReason Reason);

/// <summary>What a reply is to carry.</summary>
/// <param name="TopK">Classes per frame, most probable first; 0 for none.</param>
/// <param name="RawOutputs">Return the model's outputs.</param>
public readonly record struct ReplyContent(int TopK, bool RawOutputs)
{
    /// <summary>Read boxes, maps and vectors; false for a protocol that hands out tensors only.</summary>
    public bool Reads { get; init; } = true;

    /// <summary>Say also what the method answered before its prediction filter.</summary>
    public bool Unfiltered { get; init; }

    /// <summary>Instead of the model's, 0 to 1.</summary>
    public float? ScoreThreshold { get; init; }

    /// <summary>Instead of the model's, 0 to 1.</summary>
    public float? IouThreshold { get; init; }

    /// <summary>Instead of the model's.</summary>
    public int? MaxBoxes { get; init; }

    /// <summary>How class maps are written.</summary>
    public MaskForm Mask { get; init; }

    /// <summary>Classes per frame, unless another number is asked for.</summary>
    public const int DefaultTopK = 5;
    /// <summary>Most classes per frame.</summary>
    public const int MaximumTopK = 1000;
}

/// <summary>The answer to a committed step.</summary>
public sealed record StepAnswer
{
    /// <summary>Steps of the state, this one included unless frozen.</summary>
    public required long Steps { get; init; }

    /// <summary>Frames of the state, this step's included unless frozen.</summary>
    public required long Frames { get; init; }

    /// <summary>Since the start or the last reset.</summary>
    public required TimeSpan Age { get; init; }

    /// <summary>The name of the stream's method.</summary>
    public required string Method { get; init; }

    /// <summary>What happened to the stream since its last answer, for people; null for nothing.</summary>
    [JsonIgnore]
    public string? Notice { get; init; }

    /// <summary>Per frame, most probable first.</summary>
    public required ClassScore[][] Predictions { get; init; }

    /// <summary>A prediction filter replaced what the method answered.</summary>
    public bool Filtered { get; init; }

    /// <summary>Per frame, most probable first: what the method answered before its prediction filter. Empty unless asked for.</summary>
    public IReadOnlyList<ClassScore[]> Unfiltered { get; init; } = [];

    /// <summary>The class scores before a prediction filter; null unless asked for with the model's outputs.</summary>
    public OutputTensor? UnfilteredScores { get; init; }

    /// <summary>Per frame, of a model that answers boxes, maps or vectors; empty for another.</summary>
    public IReadOnlyList<FrameAnswer> Found { get; init; } = [];

    /// <summary>Empty unless asked for.</summary>
    public required IReadOnlyList<OutputTensor> Outputs { get; init; }

    /// <summary>Frames that left state and observed statistics alone.</summary>
    public IReadOnlyList<UnlearnedFrame> NotLearned { get; init; } = [];

    /// <summary>The state had collapsed, and starts from the source statistics again.</summary>
    public bool RolledBack { get; init; }

    /// <summary>Where its time went.</summary>
    public required StepTimes Times { get; init; }

    /// <summary>Requests that were joined into the step.</summary>
    public required int Joined { get; init; }

    /// <summary>True for the kept answer of an earlier step.</summary>
    public bool Replayed { get; init; }

    /// <summary>About how much memory it holds.</summary>
    internal long Bytes
    {
        get
        {
            var bytes = 256L;
            foreach (var classes in Predictions.Concat(Unfiltered))
            {
                bytes += 32 + (16L * classes.Length);
            }

            foreach (var output in UnfilteredScores is { } scores ? Outputs.Append(scores) : Outputs)
            {
                bytes += 64 + ((long)sizeof(float) * output.Values.Length);
            }

            foreach (var found in Found)
            {
                bytes += found.Bytes;
            }

            return bytes + (16L * NotLearned.Count);
        }
    }
}

/// <summary>Where a step's time went, and its company.</summary>
/// <param name="Decode">Reading its frames.</param>
/// <param name="Queue">Waiting for its batch, and for the device.</param>
/// <param name="Run">The batch's pass.</param>
/// <param name="BatchFrames">Frames of the batch.</param>
public readonly record struct StepTimes(TimeSpan Decode, TimeSpan Queue, TimeSpan Run, int BatchFrames);

/// <summary>How a step ended: one of the two is set.</summary>
/// <param name="Answer">Of a step that was answered.</param>
/// <param name="Failure">Why it was not; its state is as it was.</param>
public readonly record struct StepOutcome(StepAnswer? Answer, Failure? Failure)
{
    /// <summary>It was answered.</summary>
    public static implicit operator StepOutcome(StepAnswer answer) => new(answer, null);

    /// <summary>It was refused or failed.</summary>
    public static implicit operator StepOutcome(Failure failure) => new(null, failure);
}
