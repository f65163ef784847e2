using TtaService.Host.Hosting;

namespace TtaService.Host.Grpc;

/// <summary>Counts calls, and holds a stop back until they have told their clients why they end.</summary>
/// <remarks>
/// Kestrel closes connections as soon as their calls are over. What a busy client has not read by then is lost if it sends anything, a ping for instance: the system answers with a reset.
/// On the other hand Kestrel waits for clients that keep their half of a call open that has ended; a while later their connections are cut.
/// </remarks>
internal sealed class OpenCalls(IHostApplicationLifetime lifetime, PeerConnections connections) : IHostedLifecycleService, IDisposable
{
    // For clients to read how their calls ended.
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(250);

    // For clients to close their half, once all calls have ended.
    private static readonly TimeSpan LongestClosing = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _stopped = new();
    private Task _closing = Task.CompletedTask;
    private int _open;
    private long _lastEnded;
    private bool _stopping;

    /// <summary>Counts a call until its response is complete.</summary>
    public void Add(HttpContext call)
    {
        lock (_gate)
        {
            _open++;
        }

        call.Response.OnCompleted(Ended);
    }

    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        // Otherwise told after this, and it is what ends the calls.
        lifetime.StopApplication();
        lock (_gate)
        {
            _stopping = true;
            Tell();
        }

        await _ended.Task.WaitAsync(cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        var left = _lastEnded == 0 ? TimeSpan.Zero : Grace - TimeProvider.System.GetElapsedTime(_lastEnded);
        if (left > TimeSpan.Zero)
        {
            await Task.Delay(left, TimeProvider.System, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        _closing = CutLaterAsync();
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken)
    {
        _stopped.Cancel();
        return _closing;
    }

    public void Dispose() => _stopped.Dispose();

    private async Task CutLaterAsync()
    {
        await Task.Delay(LongestClosing, TimeProvider.System, _stopped.Token).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        if (!_stopped.IsCancellationRequested)
        {
            connections.CutAll();
        }
    }

    private Task Ended()
    {
        lock (_gate)
        {
            _open--;
            _lastEnded = TimeProvider.System.GetTimestamp();
            Tell();
        }

        return Task.CompletedTask;
    }

    private void Tell()
    {
        if (_stopping && _open == 0)
        {
            _ended.TrySetResult();
        }
    }
}
