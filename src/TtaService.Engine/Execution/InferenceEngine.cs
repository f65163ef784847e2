namespace TtaService.Engine.Execution;

/// <summary>Owns a model on one thread of its own; callers await, and no tensor leaves the thread.</summary>
public sealed class InferenceEngine : IAsyncDisposable
{
    /// <summary>Loads the model on the engine's thread.</summary>
    public static Task<InferenceEngine> StartAsync(string onnxPath, AdaptiveModelOptions? options = null) => throw new NotImplementedException();

    /// <summary>The model, for what does not run it: digest, sites, shapes, method checks (all immutable after loading).</summary>
    public AdaptiveModel Model => throw new NotImplementedException();

    /// <summary>Runs work on the engine's thread, in the order of the calls. The work must not keep tensors.</summary>
    public Task<T> InvokeAsync<T>(Func<AdaptiveModel, T> work) => throw new NotImplementedException();

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => throw new NotImplementedException();
}
