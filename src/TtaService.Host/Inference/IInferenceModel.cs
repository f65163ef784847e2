namespace TtaService.Host.Inference;

/// <summary>An input or output of a model.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Datatype">What its elements are.</param>
/// <param name="Shape">-1 for what may differ; the first axis is the batch where the model has one.</param>
internal sealed record TensorDescription(string Name, Datatype Datatype, IReadOnlyList<long> Shape);

/// <summary>What a model is, for metadata and configuration.</summary>
internal sealed record InferenceModelDescription
{
    public required string Name { get; init; }

    /// <summary>The one that is served.</summary>
    public string Version { get; init; } = InferenceModels.OnlyVersion;

    /// <summary>As Triton writes it: what made the file, and the file's form.</summary>
    public required string Platform { get; init; }

    public required IReadOnlyList<TensorDescription> Inputs { get; init; }

    public required IReadOnlyList<TensorDescription> Outputs { get; init; }

    /// <summary>0: the first axis is no batch.</summary>
    public int MaxBatch { get; init; }

    /// <summary>Requests of a sequence share state.</summary>
    public bool HasSequences { get; init; }

    /// <summary>A request may have any number of responses.</summary>
    public bool IsDecoupled { get; init; }

    /// <summary>How long an idle sequence is kept.</summary>
    public TimeSpan SequenceIdle { get; init; }

    /// <summary>Further facts, by name.</summary>
    public IReadOnlyDictionary<string, string> Facts { get; init; } = new Dictionary<string, string>();
}

/// <summary>A model behind the Open Inference Protocol.</summary>
internal interface IInferenceModel
{
    InferenceModelDescription Description { get; }

    /// <summary>The responses to a request, one unless the model is decoupled.</summary>
    /// <exception cref="FailureException">The request does not fit the model, or could not be answered.</exception>
    IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, CancellationToken cancel);
}
