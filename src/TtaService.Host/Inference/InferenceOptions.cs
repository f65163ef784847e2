namespace TtaService.Host.Inference;

/// <summary>The Open Inference Protocol, section <c>Inference</c>.</summary>
public sealed class InferenceOptions
{
    /// <summary>Adds the small models that the examples of the protocol's clients ask for, and takes Triton's name; for trying clients, never for production. Default false.</summary>
    public bool ConformanceModels { get; set; }
}
