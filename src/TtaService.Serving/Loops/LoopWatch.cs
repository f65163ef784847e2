using System.Collections.Immutable;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Loops;

/// <summary>Knows every loop of the process, and which of them are not well. Thread-safe.</summary>
internal sealed class LoopWatch : ILevelSource
{
    // Past five periods, and never so soon that a busy machine alarms.
    private const int PeriodsToStandStill = 5;
    private static readonly TimeSpan ShortestLimit = TimeSpan.FromMinutes(1);

    private ImmutableList<LoopBeat> _loops = [];
    private readonly TtaMetrics _metrics;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;

    public LoopWatch(TtaMetrics metrics, TimeProvider clock, ILogger<LoopWatch> logger)
    {
        (_metrics, _clock, _logger) = (metrics, clock, logger);
        // As long as there are metrics.
        _ = metrics.Observe(this);
    }

    /// <summary>All of them.</summary>
    public IReadOnlyCollection<LoopBeat> Loops => _loops;

    IEnumerable<LoopLevels> ILevelSource.Loops => _loops
        .GroupBy(loop => loop.Kind)
        .Select(alike => new LoopLevels(alike.Key, alike.Max(loop => loop.Age), alike.Count(loop => loop.WhyUnwell is not null)));

    /// <summary>Takes note of a loop that works when there is work.</summary>
    /// <param name="kind">What sort of loop it is.</param>
    /// <param name="name">For people: which one.</param>
    /// <param name="limit">Without a turn for longer, while it has work, it stands still.</param>
    /// <param name="isVital">Whether the process is of no use without it.</param>
    public LoopBeat Add(LoopKind kind, string name, TimeSpan limit, bool isVital = false)
    {
        var loop = new LoopBeat(kind, name, limit, isVital, _metrics.LoopFailed, _clock, _logger);
        ImmutableInterlocked.Update(ref _loops, static (loops, added) => loops.Add(added), loop);
        return loop;
    }

    /// <summary>Forgets a loop that has ended.</summary>
    public void Remove(LoopBeat loop) => ImmutableInterlocked.Update(ref _loops, static (loops, ended) => loops.Remove(ended), loop);

    /// <summary>Takes note of a loop that turns once a period.</summary>
    public LoopBeat AddPeriodic(LoopKind kind, string name, TimeSpan period) =>
        Add(kind, name, period * PeriodsToStandStill > ShortestLimit ? period * PeriodsToStandStill : ShortestLimit);

    /// <summary>What is wrong with the loops, for people; null when nothing is.</summary>
    /// <param name="vitalOnly">Ask only for those that the process is of no use without.</param>
    public string? WhyUnwell(bool vitalOnly)
    {
        var unwell = _loops.Where(loop => loop.IsVital || !vitalOnly).Select(loop => loop.WhyUnwell).OfType<string>().ToList();
        return unwell.Count == 0 ? null : string.Join("; ", unwell);
    }
}
