using System.Collections.Concurrent;
using TtaService.Serving.Loops;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Takes the streams off models that serve no more, then gives the models back. Thread-safe.</summary>
internal sealed class ModelRetirement(ModelCatalog catalog, ModelLoader loader, StreamDirectory directory, StreamDepartures departures, LoopWatch loops) : IAsyncDisposable
{
    private static readonly TimeSpan Again = TimeSpan.FromMilliseconds(100);

    // A request that found the model just before may be about to open a stream on it.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan Stuck = TimeSpan.FromMinutes(5);

    private readonly CancellationTokenSource _stop = new();
    private readonly ConcurrentDictionary<Task, bool> _running = new();

    /// <summary>Begins; every stream is saved and given up after the steps that were admitted.</summary>
    /// <param name="devices">The model on each of its devices; no stream comes to it any more.</param>
    /// <param name="why">What a stream's next step hears.</param>
    /// <param name="drain">Leave alone what a call has open, until it ends.</param>
    public void Begin(IReadOnlyList<ServedModel> devices, Failure why, bool drain)
    {
        var running = Task.Run(() => RunAsync(devices, why, drain));
        _running[running] = true;
        _ = running.ContinueWith(done => _running.TryRemove(done, out _), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);
    }

    /// <summary>Ends with the service, which ends the models itself.</summary>
    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync().ConfigureAwait(false);
        await Task.WhenAll(_running.Keys).ConfigureAwait(false);
        _stop.Dispose();
    }

    private async Task RunAsync(IReadOnlyList<ServedModel> devices, Failure why, bool drain)
    {
        var beat = loops.Add(LoopKind.Retirement, $"the streams that leave {devices[0].Name}", Stuck);
        try
        {
            beat.Begin();
            while (Left(devices) is { Count: > 0 } left)
            {
                foreach (var session in left.Where(session => !drain || !session.Use.IsOpen))
                {
                    await beat.TryAsync($"stream '{session.Name}'", () => departures.ReleaseAsync(session, why, onlyIdle: false, settled: true), _stop.Token).ConfigureAwait(false);
                    beat.Turned();
                }

                await Task.Delay(Again, _stop.Token).ConfigureAwait(false);
                beat.Turned();
            }

            do
            {
                await Task.Delay(Grace, _stop.Token).ConfigureAwait(false);
                beat.Turned();
            }
            while (Left(devices).Count > 0 || devices.Any(device => device.Batcher.QueuedSteps > 0));

            foreach (var device in devices.Where(catalog.TryForget))
            {
                await loader.EndAsync(device).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (_stop.IsCancellationRequested)
        {
            // The catalog ends what is left.
        }
        finally
        {
            loops.Remove(beat);
        }
    }

    private List<StreamSession> Left(IReadOnlyList<ServedModel> devices) => [.. directory.Loaded.Where(session => devices.Contains(session.Model))];
}
