namespace TtaService.Host.Grpc;

/// <summary>Counts calls that last, and holds a stop back until they have told their clients why they end.</summary>
/// <remarks>Kestrel closes connections as soon as their calls are over. What a busy client has not read by then is lost if it sends anything, a ping for instance: the system answers with a reset.</remarks>
internal sealed class OpenCalls(IHostApplicationLifetime lifetime) : IHostedLifecycleService
{
    // For clients to read how their calls ended.
    private static readonly TimeSpan Grace = TimeSpan.FromMilliseconds(100);

    private readonly Lock _gate = new();
    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
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
    }

    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

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
