using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Auto;

/// <summary>T: how far the adapted moments are trusted against the source's, from what the source itself predicts on some of the frames.</summary>
internal static class SourceTrust
{
    /// <summary>Frames at the start of a stream that the source predicts, too.</summary>
    public const int FirstFrames = 16;

    /// <summary>Then every so many frames.</summary>
    public const int Interval = 32;

    /// <summary>Every so many where the stream's own predictions look like guesses.</summary>
    public const int SuspectInterval = 8;

    private const float Memory = 64;
    private const float EntropyShare = 0.5f;
    private const float Margin = 0.03f;
    private const float Temperature = 0.03f;
    private const float InitialLogit = -2;

    // Under a strong shift without variety, predictions of one class are the class more often than a collapse.
    private const float ImbalanceGain = 2;
    private const int LeastFrames = 8;

    /// <summary>Frames from a step's start that the source predicts, too.</summary>
    public static int FramesOf(int frames, long framesBefore, int interval = Interval) =>
        framesBefore < FirstFrames
            ? (int)Math.Min(frames, FirstFrames - framesBefore)
            : (int)(((framesBefore + frames) / interval) - (framesBefore / interval));

    /// <summary>The trust of an uncalibrated model's new stream.</summary>
    public static float Initial { get; } = Sigmoid(InitialLogit);

    /// <summary>Takes what the source and the stream predict for the same frames, [k,Q] each, into running means over frames.</summary>
    public static void Observe(AutoLayout layout, ReadOnlySpan<float> source, ReadOnlySpan<float> own, Span<float> state)
    {
        var frames = source.Length / layout.Classes;
        state[AutoLayout.SourceFrames] = Math.Min(state[AutoLayout.SourceFrames] + frames, Memory);
        var rate = frames / state[AutoLayout.SourceFrames];
        Mean(source, rate, state[layout.SourcePredictions], ref state[AutoLayout.SourceEntropy]);
        Mean(own, rate, state[layout.OwnPredictions], ref state[AutoLayout.OwnEntropy]);
    }

    /// <summary>Calibrated: less than 1 where a strong shift, frames without variety and one-sided predictions of the source come together: that is one class rather than
    /// another camera.</summary>
    /// <param name="layout">The state's.</param>
    /// <param name="state">The stream's own block.</param>
    /// <param name="prior">pi, [Q].</param>
    /// <param name="variety">v.</param>
    /// <param name="compositionTrust">gamma.</param>
    /// <param name="frames">Frames of a step.</param>
    public static float FromImbalance(AutoLayout layout, ReadOnlySpan<float> state, ReadOnlySpan<float> prior, float variety, float compositionTrust, int frames)
    {
        var seen = state[AutoLayout.SourceFrames];
        if (seen < Math.Min(frames, LeastFrames))
        {
            return state[AutoLayout.SourceTrust];
        }

        var imbalance = Math.Max(Composition.Imbalance(state[layout.SourcePredictions], prior) - (1 / seen), 0);
        return 1 - ((1 - variety) * (1 - compositionTrust) * Math.Min(1, ImbalanceGain * imbalance));
    }

    /// <summary>Uncalibrated: adapted moments must earn their trust by surer predictions, whose classes stay as various.</summary>
    public static float FromEntropy(AutoLayout layout, ReadOnlySpan<float> state)
    {
        var spread = ClassScores.Entropy(state[layout.SourcePredictions]) - ClassScores.Entropy(state[layout.OwnPredictions]);
        var gain = state[AutoLayout.SourceEntropy] - state[AutoLayout.OwnEntropy] - (EntropyShare * spread);
        var sureness = Math.Min(1, state[AutoLayout.SourceFrames] / FirstFrames);
        return Sigmoid(((gain - Margin) / Temperature * sureness) + ((1 - sureness) * InitialLogit));
    }

    private static void Mean(ReadOnlySpan<float> probabilities, float rate, Span<float> mean, ref float entropy)
    {
        var frames = probabilities.Length / mean.Length;
        var sum = 0f;
        TensorPrimitives.Multiply(mean, 1 - rate, mean);
        for (var at = 0; at < probabilities.Length; at += mean.Length)
        {
            var row = probabilities.Slice(at, mean.Length);
            sum += ClassScores.Entropy(row);
            TensorPrimitives.MultiplyAdd(row, rate / frames, mean, mean);
        }

        entropy += rate * ((sum / frames) - entropy);
    }

    private static float Sigmoid(float x) => 1 / (1 + MathF.Exp(-x));
}
