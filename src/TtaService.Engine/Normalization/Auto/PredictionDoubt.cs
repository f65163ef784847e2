using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>Whether a stream's adapted predictions say anything about its frames; where they are guesses, the source answers.</summary>
/// <remarks>Frames of one class under a shift are normalized away from their class: all of them come to lie between the classes, where predictions are unsure and hardly differ.
/// Good predictions are sure (small entropy H of each) or at least tell frames apart (large information I = H(mean) - mean H). With both bad,
/// H - I lies far above the calibrated entropy.
/// The source's sureness is no help, under a shift it is sure of what is wrong; but a source that tells frames apart less than the guesses do is no better.</remarks>
internal static class PredictionDoubt
{
    /// <summary>Entropy of a prediction on ordinary frames where none was measured, 0 to 1.</summary>
    public const float UsualEntropy = 0.2f;

    /// <summary>Steps without adapting between two that are tried, once doubt has lasted.</summary>
    public const int RestedSteps = 7;

    /// <summary>Frames of doubt in a row after which a stream rests at the source.</summary>
    public const float LastingFrames = 128;

    private const float Memory = 48;
    private const float Margin = 0.125f;
    private const float Advantage = 0.14f;
    private const int LeastSourceFrames = 8;

    /// <summary>Floats of the state that <see cref="Observe"/> moves, besides the mean prediction [Q]: frames, mean entropy, frames in doubt, steps to rest.</summary>
    public const int Floats = 4;

    private const int Frames = 0;
    private const int Entropy = 1;
    private const int Doubted = 2;
    private const int Resting = 3;

    /// <summary>Whether the stream rests at the source: its next step is answered as by the source, and teaches nothing.</summary>
    public static bool Rests(ReadOnlySpan<float> doubt) => doubt[Resting] > 0;

    /// <summary>Counts a step at rest.</summary>
    public static void Rest(Span<float> doubt) => doubt[Resting]--;

    /// <summary>Takes a step's own predictions into means over the last frames; returns whether they look like guesses.</summary>
    /// <param name="probabilities">p, [n,Q], unfiltered.</param>
    /// <param name="mean">Their mean, [Q].</param>
    /// <param name="usualEntropy">Mean entropy of predictions on ordinary frames, 0 to 1.</param>
    /// <param name="doubt">The four figures.</param>
    /// <param name="ownMean">The running mean of the predictions, [Q].</param>
    public static bool Observe(ReadOnlySpan<float> probabilities, ReadOnlySpan<float> mean, float usualEntropy, Span<float> doubt, Span<float> ownMean)
    {
        var frames = probabilities.Length / mean.Length;
        var entropy = 0f;
        for (var at = 0; at < probabilities.Length; at += mean.Length)
        {
            entropy += ClassScores.Entropy(probabilities.Slice(at, mean.Length)) / frames;
        }

        var kept = Math.Min(doubt[Frames], Math.Max(0, Memory - frames));
        doubt[Frames] = kept + frames;
        var rate = frames / doubt[Frames];
        doubt[Entropy] += rate * (entropy - doubt[Entropy]);
        TemporalFilter.Blend(ownMean, mean, rate);
        return doubt[Entropy] - Information(doubt, ownMean) > usualEntropy + Margin;
    }

    /// <summary>Whether guesses tell frames apart clearly better than the source's predictions do, as far as these are known.</summary>
    /// <param name="doubt">The four figures.</param>
    /// <param name="ownMean">The running mean of the predictions, [Q].</param>
    /// <param name="sourceFrames">Frames that the source's predictions stand for.</param>
    /// <param name="sourceEntropy">Their mean entropy.</param>
    /// <param name="sourceMean">Their mean, [Q].</param>
    public static bool TellsMoreThanSource(ReadOnlySpan<float> doubt, ReadOnlySpan<float> ownMean, float sourceFrames, float sourceEntropy, ReadOnlySpan<float> sourceMean) =>
        sourceFrames >= LeastSourceFrames && Information(doubt, ownMean) - (ClassScores.Entropy(sourceMean) - sourceEntropy) > Advantage;

    /// <summary>Counts a step that was in doubt or not; doubt that lasts is followed by rest.</summary>
    public static void Count(bool doubts, int frames, Span<float> doubt)
    {
        doubt[Doubted] = doubts ? doubt[Doubted] + frames : 0;
        doubt[Resting] = doubt[Doubted] >= LastingFrames ? RestedSteps : 0;
    }

    private static float Information(ReadOnlySpan<float> doubt, ReadOnlySpan<float> ownMean) => ClassScores.Entropy(ownMean) - doubt[Entropy];
}
