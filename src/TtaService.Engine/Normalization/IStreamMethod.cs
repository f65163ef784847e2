namespace TtaService.Engine.Normalization;

/// <summary>A method that keeps something of a stream besides what it keeps at its sites.</summary>
public interface IStreamMethod : INormalizationMethod
{
    /// <summary>The tensors that a stream keeps besides those at sites, named <c>stream.&lt;name&gt;</c>.</summary>
    IReadOnlyList<StateTensor> StreamState { get; }

    /// <summary>Writes the stream's own tensors of a stream that has seen nothing.</summary>
    void InitializeStream(Span<float> state);
}
