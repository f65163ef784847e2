using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Loops;

namespace TtaService.Serving.Streams;

/// <summary>Asks every device thread now and then whether it lives, and, when all its passes fail, whether the device itself is to blame.</summary>
/// <remarks>A stream may send frames that fail every time; that must not look like a broken device. So a blank frame is tried, which runs wherever anything runs.</remarks>
internal sealed class DeviceWatch(ModelCatalog models, LoopWatch loops, IOptions<BatchingOptions> batching, TimeProvider clock)
    : BackgroundLoop(loops, LoopKind.DeviceWatch, "the watch over the devices", Period, clock)
{
    /// <summary>Failed passes without one that went well, after which the device is tried.</summary>
    public const int FailuresToTry = 8;

    private static readonly TimeSpan Period = TimeSpan.FromSeconds(5);

    private readonly LoopWatch _loops = loops;
    private readonly TimeProvider _clock = clock;
    private readonly Dictionary<ServedModel, Device> _devices = [];

    /// <summary>Looks at every device once.</summary>
    public Task LookAsync() => TurnAsync(CancellationToken.None);

    protected override Task TurnAsync(CancellationToken stop)
    {
        foreach (var model in models.Engines)
        {
            if (!_devices.TryGetValue(model, out var device))
            {
                _devices.Add(
                    model,
                    device = new Device(_loops.Add(LoopKind.Device, $"the device thread of {model.Name} on {model.Device}", batching.Value.StuckAfter, isVital: true)));
            }

            // Not waited for: one that is stuck must not hide the others.
            if (device.Asking.IsCompleted)
            {
                device.Asking = AskAsync(model, device.Beat, stop);
            }
        }

        foreach (var gone in _devices.Keys.Except(models.Engines).ToList())
        {
            _loops.Remove(_devices[gone].Beat);
            _devices.Remove(gone);
        }

        return Task.WhenAll(_devices.Values.Select(device => device.Asking)).WaitAsync(Period, _clock, stop).ContinueWith(
            static _ => { },
            CancellationToken.None,
            TaskContinuationOptions.None,
            TaskScheduler.Default);
    }

    private static async Task AskAsync(ServedModel model, LoopBeat beat, CancellationToken stop)
    {
        beat.Begin();
        try
        {
            await model.Engine.InvokeAsync(static _ => true).ConfigureAwait(false);
            if (model.Batcher.Runner.FailuresInARow < FailuresToTry)
            {
                beat.Troubled(null);
                return;
            }

            var frames = model.Frames;
            var clip = model.Engine.Model.ClipFrames;
            var blank = FrameBlock.FromPixels(new byte[clip * frames.FrameBytes], clip, frames.Channels, frames.Height, frames.Width);
            await model.Engine.InvokeAsync(engine => engine.RunSource([blank])).ConfigureAwait(false);
            model.Batcher.Runner.FailuresInARow = 0;
            beat.Troubled(null);
        }
        catch (ObjectDisposedException)
        {
            // The model was given back meanwhile.
            beat.Troubled(null);
        }
        catch (Exception) when (stop.IsCancellationRequested)
        {
            // The host stops.
        }
        catch (Exception broken)
        {
            beat.Troubled($"every pass fails, a blank frame's too ({broken.GetType().Name}); only a new process can help");
            beat.Failed("a blank frame", broken);
        }
        finally
        {
            beat.Rest();
        }
    }

    private sealed class Device(LoopBeat beat)
    {
        public LoopBeat Beat { get; } = beat;

        public Task Asking { get; set; } = Task.CompletedTask;
    }
}
