using Microsoft.Extensions.Options;

namespace TtaService.Serving.Streams;

/// <summary>Looks for idle streams now and then.</summary>
internal sealed class IdleStreamSweeper(StreamDirectory directory, IOptions<StreamsOptions> options, TimeProvider clock) : BackgroundService
{
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        var period = TimeSpan.FromTicks(Math.Clamp(options.Value.IdleTimeout.Ticks / 4, TimeSpan.TicksPerSecond, TimeSpan.TicksPerMinute));
        using var timer = new PeriodicTimer(period, clock);
        try
        {
            while (await timer.WaitForNextTickAsync(stoppingToken).ConfigureAwait(false))
            {
                await directory.UnloadIdleAsync().ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException)
        {
            // The host stops.
        }
        catch (FailureException)
        {
            // A batcher stops before this does.
        }
    }
}
