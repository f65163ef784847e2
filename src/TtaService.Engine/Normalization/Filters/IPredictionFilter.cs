namespace TtaService.Engine.Normalization.Filters;

/// <summary>A part of a method that replaces predictions behind a pass, whatever normalized its frames.</summary>
/// <remarks>An instance serves every stream of a model with these settings, on one thread at a time. What it keeps of a stream lies in the host's memory on every device.</remarks>
internal interface IPredictionFilter
{
    /// <summary>The tensors that a stream keeps, named <c>filter.&lt;name&gt;</c> in a snapshot.</summary>
    IReadOnlyList<StateTensor> State { get; }

    /// <summary>Whether it reads the features that the classifier reads.</summary>
    bool ReadsFeatures { get; }

    /// <summary>Writes the state of a stream that has seen nothing; it comes as zeros.</summary>
    void Initialize(Span<float> state);

    /// <summary>Filters a step's predictions and moves the state.</summary>
    void Run(in FilterStep step);
}

/// <summary>A step's predictions before and behind a filter.</summary>
internal readonly ref struct FilterStep
{
    /// <summary>Classes Q.</summary>
    public required int Classes { get; init; }

    /// <summary>Predictions p, [n,Q].</summary>
    public required ReadOnlySpan<float> Probabilities { get; init; }

    /// <summary>What the classifier read, [n,D]; empty where the filter does not ask.</summary>
    public required ReadOnlySpan<float> Features { get; init; }

    /// <summary>The stream's state; comes as it is before the step.</summary>
    public required Span<float> State { get; init; }

    /// <summary>Filtered predictions, [n,Q], to be filled.</summary>
    public required Span<float> Answer { get; init; }

    /// <summary>Frames n of the step.</summary>
    public int Frames => Probabilities.Length / Classes;
}
