namespace TtaService.Engine.Normalization.Auto;

/// <summary>Which floats of a stream's own block mean what, for a model of Q classes.</summary>
/// <param name="classes">Q; 0 for a model that answers none.</param>
internal sealed class AutoLayout(int classes)
{
    /// <summary>Frames that the running moments stand for.</summary>
    public const int Clock = 0;

    /// <summary>The change statistic.</summary>
    public const int Change = 1;

    /// <summary>The usual distance of a frame from the running moments.</summary>
    public const int UsualDistance = 2;

    /// <summary>How far the adapted moments are trusted against the source's, 0 to 1.</summary>
    public const int SourceTrust = 3;

    /// <summary>Frames that the source's own predictions stand for.</summary>
    public const int SourceFrames = 4;

    /// <summary>Their mean entropy, 0 to 1.</summary>
    public const int SourceEntropy = 5;

    /// <summary>The mean entropy of the stream's own predictions of the same frames, 0 to 1.</summary>
    public const int OwnEntropy = 6;

    /// <summary>Frames that the filter's class frequencies stand for.</summary>
    public const int FilterFrames = 7;

    private const int DoubtAt = 8;
    private const int EvidenceAt = DoubtAt + PredictionDoubt.Floats;
    private const int FirstClassAt = EvidenceAt + TemporalFilter.Experts;

    public int Classes => classes;

    public int Floats => FirstClassAt + ((6 + TemporalFilter.Experts) * classes);

    /// <summary>The figures of <see cref="PredictionDoubt"/>.</summary>
    public static Range Doubt => DoubtAt..EvidenceAt;

    /// <summary>The filter's evidence for each expert.</summary>
    public static Range Evidence => EvidenceAt..FirstClassAt;

    /// <summary>q: running mean of the predictions.</summary>
    public Range Predictions => Block(0, 1);

    /// <summary>qc: the class composition of the running moments, as far as it is believed.</summary>
    public Range Composition => Block(1, 1);

    /// <summary>qs: mean of the source's own predictions.</summary>
    public Range SourcePredictions => Block(2, 1);

    /// <summary>Mean of the stream's own predictions of the same frames.</summary>
    public Range OwnPredictions => Block(3, 1);

    /// <summary>qf: class frequencies that the filter expects.</summary>
    public Range FilterPredictions => Block(4, 1);

    /// <summary>a: each expert's belief after the last frame, [3,Q].</summary>
    public Range Belief => Block(5, TemporalFilter.Experts);

    /// <summary>Mean of the stream's own predictions over the last frames.</summary>
    public Range DoubtPredictions => Block(5 + TemporalFilter.Experts, 1);

    public IReadOnlyList<StateTensor> Tensors { get; } =
    [
        new("clock", [1]),
        new("change", [2]),
        new("source_trust", [1]),
        new("source_frames", [1]),
        new("source_entropy", [1]),
        new("own_entropy", [1]),
        new("filter_frames", [1]),
        new("doubt", [PredictionDoubt.Floats]) { MayLack = true },
        new("filter_evidence", [TemporalFilter.Experts]),
        .. classes == 0 ? [] : new StateTensor[]
        {
            new("predictions", [classes]),
            new("composition", [classes]),
            new("source_predictions", [classes]),
            new("own_predictions", [classes]),
            new("filter_predictions", [classes]),
            new("filter_belief", [TemporalFilter.Experts, classes]),
            new("doubt_predictions", [classes]) { MayLack = true },
        },
    ];

    private Range Block(int index, int rows) => (FirstClassAt + (index * classes))..(FirstClassAt + ((index + rows) * classes));
}
