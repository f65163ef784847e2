namespace TtaService.Serving.Loops;

/// <summary>A loop that turns once a period until the host stops: what a turn throws is named and the loop goes on, and one that stands still is seen.</summary>
internal abstract class BackgroundLoop(LoopWatch watch, LoopKind kind, string name, TimeSpan period, TimeProvider clock) : BackgroundService
{
    /// <summary>Its signs of life. A long turn gives one with every item.</summary>
    protected LoopBeat Beat { get; } = watch.AddPeriodic(kind, name, period);

    /// <summary>Whether it has anything to do at all.</summary>
    protected virtual bool IsNeeded => true;

    /// <summary>Runs a turn.</summary>
    protected abstract Task TurnAsync(CancellationToken stop);

    protected sealed override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        if (!IsNeeded)
        {
            return;
        }

        Beat.Begin();
        try
        {
            using var timer = new PeriodicTimer(period, clock);
            while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
            {
                await Beat.TryAsync("its turn", () => TurnAsync(stoppingToken), stoppingToken).ConfigureAwait(false);
                Beat.Turned();
            }
        }
        catch (OperationCanceledException) when (stoppingToken.IsCancellationRequested)
        {
            // The host stops.
        }
        finally
        {
            Beat.Rest();
        }
    }
}
