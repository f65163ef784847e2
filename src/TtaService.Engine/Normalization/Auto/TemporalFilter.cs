using System.Buffers;
using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>Filters predictions in time, as far as the evidence goes that neighbouring frames show the same class.</summary>
/// <remarks>Three hidden Markov experts, which differ in how long a class stays, run forward over the frames and back within the step (forward-backward); an expert
/// counts by how much
/// better it foresaw the predictions than independent frames would have been. A stream of shuffled frames is answered unfiltered.</remarks>
internal static class TemporalFilter
{
    /// <summary>How many experts there are.</summary>
    public const int Experts = 3;

    private const float EvidenceMemory = 0.98f;
    private const float EvidenceLimit = 20;
    private const float CarriedEvidence = 6;
    private const float Caution = 3;
    private const float LongestMemory = 256;
    private const float PriorShare = 0.5f;
    private const float LeastFrequency = 1e-8f;
    private const float LeastPrediction = 1e-9f;

    private static readonly float[] Stays = [0.5f, 0.9f, 0.98f];

    /// <summary>Moves the filter's state over a step, and writes the filtered probabilities.</summary>
    /// <param name="layout">The state's.</param>
    /// <param name="state">The stream's own block.</param>
    /// <param name="prior">pi, [Q].</param>
    /// <param name="trust">gamma: how far the predictions are believed.</param>
    /// <param name="probabilities">p, [n,Q].</param>
    /// <param name="mean">Their mean, [Q].</param>
    /// <param name="answer">[n,Q].</param>
    public static void Run(
        AutoLayout layout,
        Span<float> state,
        ReadOnlySpan<float> prior,
        float trust,
        ReadOnlySpan<float> probabilities,
        ReadOnlySpan<float> mean,
        Span<float> answer)
    {
        var parts = new TemporalState
        {
            Frames = ref state[AutoLayout.FilterFrames],
            Evidence = state[AutoLayout.Evidence],
            Predictions = state[layout.FilterPredictions],
            Belief = state[layout.Belief],
        };
        Run(parts, prior, trust, probabilities, mean, answer);
    }

    /// <inheritdoc cref="Run(AutoLayout, Span{float}, ReadOnlySpan{float}, float, ReadOnlySpan{float}, ReadOnlySpan{float}, Span{float})"/>
    public static void Run(
        TemporalState state, ReadOnlySpan<float> prior, float trust, ReadOnlySpan<float> probabilities, ReadOnlySpan<float> mean, Span<float> answer)
    {
        var classes = mean.Length;
        var frames = probabilities.Length / classes;
        var rented = ArrayPool<float>.Shared.Rent((3 + (Experts * frames)) * classes);
        try
        {
            var frequencies = rented.AsSpan(0, classes);
            var scratch = rented.AsSpan(classes, 2 * classes);
            var beliefs = rented.AsSpan(3 * classes, Experts * frames * classes);             // [experts,n,Q]
            Expected(state.Predictions, state.Frames, mean, frames, prior, trust, frequencies);
            Span<float> weights = stackalloc float[Experts + 1];
            var evidence = state.Evidence;
            for (var j = 0; j < Experts; j++)
            {
                var belief = state.Belief.Slice(j * classes, classes);
                var own = beliefs.Slice(j * frames * classes, frames * classes);
                Forward(Stays[j], probabilities, frequencies, belief, own, ref evidence[j]);
                weights[j + 1] = evidence[j] - Caution;
            }

            // Against 0 for independent frames.
            TensorPrimitives.SoftMax(weights, weights);
            TensorPrimitives.Multiply(probabilities, weights[0], answer);
            for (var j = 0; j < Experts; j++)
            {
                Backward(Stays[j], frequencies, beliefs.Slice(j * frames * classes, frames * classes), weights[j + 1], scratch, answer);
                evidence[j] = Math.Min(evidence[j], CarriedEvidence);
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }

        ref var memory = ref state.Frames;
        memory = Math.Min(memory + frames, LongestMemory);
        Blend(state.Predictions, mean, Math.Min(1, frames / memory));
    }

    /// <summary>a += weight (b - a).</summary>
    public static void Blend(Span<float> a, ReadOnlySpan<float> b, float weight)
    {
        TensorPrimitives.Multiply(a, 1 - weight, a);
        TensorPrimitives.MultiplyAdd(b, weight, a, a);
    }

    // rho: the class frequencies that a frame is expected from, the prior's in part, more so where predictions are believed.
    private static void Expected(ReadOnlySpan<float> seen, float seenFrames, ReadOnlySpan<float> mean, int frames, ReadOnlySpan<float> prior, float trust, Span<float> frequencies)
    {
        seen.CopyTo(frequencies);
        Blend(frequencies, mean, frames / (seenFrames + frames));
        Blend(frequencies, prior, PriorShare * trust);
        TensorPrimitives.Max(frequencies, LeastFrequency, frequencies);
    }

    private static void Forward(float stay, ReadOnlySpan<float> probabilities, ReadOnlySpan<float> frequencies, Span<float> belief, Span<float> beliefs, ref float evidence)
    {
        var classes = frequencies.Length;
        for (var at = 0; at < probabilities.Length; at += classes)
        {
            Predict(stay, belief, frequencies, belief);
            TensorPrimitives.Multiply(belief, probabilities.Slice(at, classes), belief);
            TensorPrimitives.Divide(belief, frequencies, belief);
            var likelihood = TensorPrimitives.Sum<float>(belief);
            TensorPrimitives.Divide(belief, likelihood, belief);
            evidence = Math.Clamp((EvidenceMemory * evidence) + MathF.Log(likelihood), -EvidenceLimit, EvidenceLimit);
            belief.CopyTo(beliefs.Slice(at, classes));
        }
    }

    // Adds the expert's smoothed beliefs to the answer.
    private static void Backward(float stay, ReadOnlySpan<float> frequencies, ReadOnlySpan<float> beliefs, float weight, Span<float> scratch, Span<float> answer)
    {
        var classes = frequencies.Length;
        var smoothed = scratch[..classes];
        var ratio = scratch[classes..];
        var last = beliefs.Length - classes;
        beliefs[last..].CopyTo(smoothed);
        for (var at = last; ; at -= classes)
        {
            var row = answer.Slice(at, classes);
            TensorPrimitives.MultiplyAdd(smoothed, weight, row, row);
            if (at == 0)
            {
                return;
            }

            var before = beliefs.Slice(at - classes, classes);
            Predict(stay, before, frequencies, ratio);
            TensorPrimitives.Max(ratio, LeastPrediction, ratio);
            TensorPrimitives.Divide(smoothed, ratio, ratio);
            var moved = (1 - stay) * TensorPrimitives.Dot(frequencies, ratio);
            TensorPrimitives.Multiply(ratio, stay, ratio);
            TensorPrimitives.Add(ratio, moved, ratio);
            TensorPrimitives.Multiply(ratio, before, smoothed);
            TensorPrimitives.Divide(smoothed, TensorPrimitives.Sum<float>(smoothed), smoothed);
        }
    }

    // s a + (1 - s) rho
    private static void Predict(float stay, ReadOnlySpan<float> belief, ReadOnlySpan<float> frequencies, Span<float> prediction)
    {
        TensorPrimitives.Multiply(belief, stay, prediction);
        TensorPrimitives.MultiplyAdd(frequencies, 1 - stay, prediction, prediction);
    }
}

/// <summary>What <see cref="TemporalFilter"/> keeps of a stream of Q classes.</summary>
internal ref struct TemporalState
{
    /// <summary>Frames that the class frequencies stand for.</summary>
    public ref float Frames;

    /// <summary>le: the evidence for each expert, [3].</summary>
    public Span<float> Evidence;

    /// <summary>qf: class frequencies, [Q].</summary>
    public Span<float> Predictions;

    /// <summary>a: each expert's belief after the last frame, [3,Q].</summary>
    public Span<float> Belief;
}
