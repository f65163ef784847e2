using Microsoft.Extensions.Options;
using TtaService.Serving.Loops;

namespace TtaService.Serving.Streams;

/// <summary>Looks for idle streams now and then.</summary>
internal sealed class IdleStreamSweeper(StreamDirectory directory, StreamDepartures departures, LoopWatch loops, IOptions<StreamsOptions> options, TimeProvider clock)
    : BackgroundLoop(loops, LoopKind.IdleStreams, "the sweep for idle streams", Period(options.Value), clock)
{
    protected override async Task TurnAsync(CancellationToken stop)
    {
        foreach (var session in directory.Loaded)
        {
            stop.ThrowIfCancellationRequested();
            await Beat.TryAsync($"stream '{session.Name}'", () => departures.UnloadIfIdleAsync(session), stop).ConfigureAwait(false);
            Beat.Turned();
        }
    }

    private static TimeSpan Period(StreamsOptions options) => TimeSpan.FromTicks(Math.Clamp(options.IdleTimeout.Ticks / 4, TimeSpan.TicksPerSecond, TimeSpan.TicksPerMinute));
}
