using TtaService.Engine.Normalization;

namespace TtaService.Evaluation;

/// <summary>One stream of a test: a method, a state, and the frames in their order.</summary>
public sealed record EvaluationRun
{
    /// <summary>How the sites normalize.</summary>
    public required MethodSettings Method { get; init; }

    /// <summary>The frames, in order.</summary>
    public required IReadOnlyList<EvaluationSample> Samples { get; init; }

    /// <summary>Frames a step. A remainder smaller than <see cref="Evaluator.SmallestRemainder"/> joins the step before it, so that no method has to refuse it.</summary>
    public required int BatchSize { get; init; }

    /// <summary>Seeds the initial state.</summary>
    public ulong Seed { get; init; }

    /// <summary>Starts from this snapshot instead.</summary>
    public ReadOnlyMemory<byte> Snapshot { get; init; }

    /// <summary>Keep the model's outputs.</summary>
    public bool KeepsLogits { get; init; }
}

/// <summary>What a run gave.</summary>
/// <param name="Frames">Frames by domain.</param>
/// <param name="Errors">Wrongly classified frames by domain.</param>
/// <param name="Logits">A row a frame in stream order; empty unless kept.</param>
/// <param name="Refusal">Why the method did not run such steps; null when it did.</param>
public sealed record EvaluationResult(int[] Frames, int[] Errors, IReadOnlyList<float[]> Logits, string? Refusal)
{
    /// <summary>Share of wrong frames, in percent; each domain that occurs counts the same.</summary>
    public double ErrorPercent => Frames.Zip(Errors).Where(domain => domain.First > 0).Select(domain => 100.0 * domain.Second / domain.First).DefaultIfEmpty(double.NaN).Average();
}

/// <summary>An evaluation was cancelled.</summary>
/// <param name="results">What each run gave until then, in the order of the runs; without frames for those that had not begun.</param>
public sealed class EvaluationInterruptedException(IReadOnlyList<EvaluationResult> results) : OperationCanceledException("the evaluation was interrupted")
{
    /// <summary>What each run gave until then.</summary>
    public IReadOnlyList<EvaluationResult> Results { get; } = results;
}
