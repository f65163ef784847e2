using System.Diagnostics.CodeAnalysis;
using TtaService.Serving.Models;

namespace TtaService.Serving.Streams.Loading;

/// <summary>A model can't be served.</summary>
[SuppressMessage("Design", "CA1032:Implement standard exception constructors", Justification = "There is none without the model.")]
internal sealed class ModelRefusedException(BrokenModel model, Exception cause) : Exception(model.Reason, cause)
{
    /// <summary>Which, and why.</summary>
    public BrokenModel Model { get; } = model;
}
