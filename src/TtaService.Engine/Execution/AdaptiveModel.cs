using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>A loaded model with per-stream adaptation. Not thread-safe: one thread owns it (see <see cref="InferenceEngine"/>).</summary>
public sealed class AdaptiveModel : IDisposable
{
    /// <summary>SHA-256 of the ONNX file, lower-case hex.</summary>
    public string Digest => throw new NotImplementedException();

    /// <summary>The normalization sites, in execution order.</summary>
    public IReadOnlyList<NormalizationSite> Sites => throw new NotImplementedException();

    /// <summary>Shape of the model's image input: [N,C,H,W], -1 for a dynamic axis.</summary>
    public IReadOnlyList<long> InputShape => throw new NotImplementedException();

    /// <summary>Names of the model's outputs.</summary>
    public IReadOnlyList<string> OutputNames => throw new NotImplementedException();

    /// <summary>Loads a model.</summary>
    /// <exception cref="Onnx.ModelLoadException">The file can't be served; the message lists why.</exception>
    public static AdaptiveModel Load(string onnxPath, AdaptiveModelOptions? options = null) => throw new NotImplementedException();

    /// <summary>Null when the method can run on this model, else why not and what to do (a model whose BatchNormalization was folded away).</summary>
    public string? WhyUnavailable(MethodSettings method) => throw new NotImplementedException();

    /// <summary>Bytes of state that a stream of this method keeps.</summary>
    public long StateBytes(MethodSettings method) => throw new NotImplementedException();

    /// <summary>A fresh stream state.</summary>
    /// <exception cref="MethodSettingsException">The method can't run on this model (see <see cref="WhyUnavailable"/>).</exception>
    public StreamState CreateState(MethodSettings method, ulong seed = 0) => throw new NotImplementedException();

    /// <summary>Back to the initial state of the same seed.</summary>
    public void Reset(StreamState state) => throw new NotImplementedException();

    /// <summary>Gives the state's memory back. Idempotent.</summary>
    public void Release(StreamState state) => throw new NotImplementedException();

    /// <summary>The state as safetensors (tta.stream.v1).</summary>
    public byte[] Export(StreamState state, DateTimeOffset created) => throw new NotImplementedException();

    /// <summary>A state from a snapshot.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    public StreamState Import(ReadOnlySpan<byte> snapshot) => throw new NotImplementedException();

    /// <summary>Runs steps of different streams in one forward pass. Frames must share C, H, W. A step's state is committed only when the whole pass and its own statistics are finite.</summary>
    public IReadOnlyList<StepResult> Run(IReadOnlyList<StreamStep> steps) => throw new NotImplementedException();

    /// <inheritdoc/>
    public void Dispose() => throw new NotImplementedException();
}

/// <summary>How a model is loaded.</summary>
public sealed record AdaptiveModelOptions
{
    /// <summary><c>cpu</c> or <c>cuda:N</c>. Default cpu.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>How pixels become input values; default ImageNet's. Not used for float frames.</summary>
    public InputNormalization InputNormalization { get; init; } = InputNormalization.ImageNet;
}
