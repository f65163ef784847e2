using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Drift;

/// <summary>A stream's predictions and frames as they were at one moment. Immutable.</summary>
internal sealed record PredictionReading
{
    /// <summary>Answered frames, since the stream came into the process.</summary>
    public required long Frames { get; init; }

    /// <summary>Average entropy of the predictions, 0 to 1; null when the model has no class scores.</summary>
    public required double? Entropy { get; init; }

    /// <summary>Jensen-Shannon distance of the predicted classes to the reference's, 0 to 1; null without either.</summary>
    public required double? LabelShift { get; init; }

    /// <summary>Effective classes as a share of all.</summary>
    public required double? Diversity { get; init; }

    /// <summary>Average probability by class; empty when the model has no class scores.</summary>
    public required IReadOnlyList<float> Classes { get; init; }

    /// <summary>Frames of nearly one value.</summary>
    public required long BlankFrames { get; init; }

    /// <summary>Frames equal to the one before.</summary>
    public required long FrozenFrames { get; init; }

    /// <summary>Frames that also ran through <c>source</c>.</summary>
    public required long ShadowFrames { get; init; }

    /// <summary>Of those, how many gave the same class.</summary>
    public required long ShadowAgreed { get; init; }

    /// <summary>Mean entropy of those frames as <c>source</c> answered; null before the first.</summary>
    public required double? ShadowSourceEntropy { get; init; }

    /// <summary>Mean entropy of the same frames as adapted.</summary>
    public required double? ShadowAdaptedEntropy { get; init; }
}

/// <summary>Follows what a stream answers and what its camera sends. Thread-safe.</summary>
/// <param name="window">Frames of the averages.</param>
/// <param name="shadowInterval">One frame in so many is due for a run through <c>source</c>; 0 for none.</param>
/// <param name="kind">What the model's scores are.</param>
internal sealed class StreamHealth(int window, int shadowInterval, OutputKind kind = OutputKind.Logits)
{
    private readonly Lock _lock = new();
    private readonly PredictionStatistics _predictions = new(window, kind);
    private bool _tellsEntropy;
    private long _frames;
    private long _blank;
    private long _frozen;
    private ulong _lastDigest;
    private long _shadowFrames;
    private long _shadowAgreed;
    private double _shadowSource;
    private double _shadowAdapted;

    /// <summary>Takes one answered frame, in stream order.</summary>
    /// <param name="scores">The model's class scores; empty when it has none.</param>
    /// <param name="facts">What the frame looked like.</param>
    /// <returns>Whether the frame is due for a run through <c>source</c>, and the entropy of its prediction, 0 to 1; null without class scores.</returns>
    public (bool Sampled, double? Entropy) Observe(ReadOnlySpan<float> scores, FrameFacts facts)
    {
        double? entropy = null;
        lock (_lock)
        {
            Count(facts);
            if (!scores.IsEmpty)
            {
                entropy = _predictions.Observe(scores);
                _tellsEntropy = true;
            }

            return (++_frames % Math.Max(1, shadowInterval) == 0 && shadowInterval > 0 && !scores.IsEmpty, entropy);
        }
    }

    /// <summary>Takes one answered frame of a detector or a segmentation model, in stream order; it is not run through <c>source</c>.</summary>
    /// <param name="shares">Of each class among its boxes or pixels; empty when there was none.</param>
    /// <param name="entropy">Mean over them, 0 to 1; null when the model tells none.</param>
    /// <param name="facts">What the frame looked like.</param>
    public void Observe(ReadOnlySpan<float> shares, double? entropy, FrameFacts facts)
    {
        lock (_lock)
        {
            Count(facts);
            if (!shares.IsEmpty)
            {
                _predictions.Observe(shares, entropy ?? 0);
                _tellsEntropy |= entropy is not null;
            }

            _frames++;
        }
    }

    /// <summary>Takes the two answers to a sampled frame, of the same classes.</summary>
    /// <returns>Whether both name one class (the same labels, where several may hold), and the entropy on either side, 0 to 1.</returns>
    public (bool Agrees, double SourceEntropy, double AdaptedEntropy) Compare(ReadOnlySpan<float> adapted, ReadOnlySpan<float> source)
    {
        float[] asAdapted = new float[adapted.Length], asSource = new float[source.Length];
        var (adaptedEntropy, sourceEntropy) = (PredictionStatistics.EntropyOf(adapted, asAdapted, kind), PredictionStatistics.EntropyOf(source, asSource, kind));
        var agrees = kind is OutputKind.MultiLabelLogits or OutputKind.MultiLabelProbabilities
            ? asAdapted.Zip(asSource).All(pair => pair.First >= 0.5f == pair.Second >= 0.5f)
            : TensorPrimitives.IndexOfMax(adapted) == TensorPrimitives.IndexOfMax(source);
        lock (_lock)
        {
            _shadowFrames++;
            _shadowAgreed += agrees ? 1 : 0;
            _shadowAdapted += (adaptedEntropy - _shadowAdapted) / _shadowFrames;
            _shadowSource += (sourceEntropy - _shadowSource) / _shadowFrames;
        }

        return (agrees, sourceEntropy, adaptedEntropy);
    }

    /// <summary>How it stands.</summary>
    /// <param name="reference">What is normal; null when the model was not calibrated.</param>
    public PredictionReading Read(MethodReference? reference)
    {
        lock (_lock)
        {
            var seen = _predictions.Frames > 0;
            return new PredictionReading
            {
                Frames = _frames,
                Entropy = seen && _tellsEntropy ? _predictions.Entropy : null,
                LabelShift = reference is null ? null : _predictions.LabelShift(reference.Classes),
                Diversity = seen ? _predictions.Diversity : null,
                Classes = [.. _predictions.Classes],
                BlankFrames = _blank,
                FrozenFrames = _frozen,
                ShadowFrames = _shadowFrames,
                ShadowAgreed = _shadowAgreed,
                ShadowSourceEntropy = _shadowFrames > 0 ? _shadowSource : null,
                ShadowAdaptedEntropy = _shadowFrames > 0 ? _shadowAdapted : null,
            };
        }
    }

    private void Count(FrameFacts facts)
    {
        _blank += facts.Blank ? 1 : 0;
        _frozen += _frames > 0 && facts.Digest == _lastDigest ? 1 : 0;
        _lastDigest = facts.Digest;
    }
}
