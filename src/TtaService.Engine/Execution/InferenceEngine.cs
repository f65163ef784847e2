using System.Threading.Channels;

namespace TtaService.Engine.Execution;

/// <summary>Owns a model on one thread of its own; callers await, and no tensor leaves the thread.</summary>
public sealed class InferenceEngine : IAsyncDisposable
{
    private readonly Channel<Action<AdaptiveModel>> _work = Channel.CreateUnbounded<Action<AdaptiveModel>>(new UnboundedChannelOptions { SingleReader = true });
    private readonly TaskCompletionSource _stopped = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private AdaptiveModel? _model;

    private InferenceEngine()
    {
    }

    /// <summary>The model, for what does not run it: digest, sites, shapes, method checks (all immutable after loading).</summary>
    public AdaptiveModel Model => _model!;

    /// <summary>Loads the model on the engine's thread.</summary>
    /// <exception cref="Onnx.ModelLoadException">The model can't be served.</exception>
    public static async Task<InferenceEngine> StartAsync(string onnxPath, AdaptiveModelOptions? options = null)
    {
        var engine = new InferenceEngine();
        var loaded = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        new Thread(() => engine.Loop(onnxPath, options, loaded)) { IsBackground = true, Name = "tta-engine" }.Start();
        await loaded.Task.ConfigureAwait(false);
        return engine;
    }

    /// <summary>Runs work on the engine's thread, in the order of the calls. The work must not keep tensors. What it throws comes back to the caller.</summary>
    /// <remarks>The queue is not bounded here: who admits steps bounds them.</remarks>
    /// <exception cref="ObjectDisposedException">The engine has stopped.</exception>
    public Task<T> InvokeAsync<T>(Func<AdaptiveModel, T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        var accepted = _work.Writer.TryWrite(model =>
        {
            try
            {
                done.SetResult(work(model));
            }
            catch (Exception e)
            {
                done.SetException(e);
            }
        });
        ObjectDisposedException.ThrowIf(!accepted, this);
        return done.Task;
    }

    /// <summary>Finishes the work that was accepted, then unloads the model.</summary>
    public async ValueTask DisposeAsync()
    {
        _work.Writer.TryComplete();
        await _stopped.Task.ConfigureAwait(false);
    }

    private void Loop(string onnxPath, AdaptiveModelOptions? options, TaskCompletionSource loaded)
    {
        try
        {
            _model = AdaptiveModel.Load(onnxPath, options);
        }
        catch (Exception e)
        {
            _work.Writer.TryComplete();
            loaded.SetException(e);
            return;
        }

        loaded.SetResult();
        try
        {
            Work(_model);
            _model.Dispose();
            _stopped.SetResult();
        }
        catch (Exception e)
        {
            // Who waits for the end hears of it; thrown on, it would end the process.
            _work.Writer.TryComplete();
            _stopped.SetException(e);
        }
    }

    private void Work(AdaptiveModel model)
    {
        // A thread of its own may wait: dispose scopes and grad mode are thread-static, so nothing here may hop threads.
        while (true)
        {
            if (_work.Reader.TryRead(out var work))
            {
                work(model);
            }
            else if (!_work.Reader.WaitToReadAsync().AsTask().GetAwaiter().GetResult())
            {
                break;
            }
        }
    }
}
