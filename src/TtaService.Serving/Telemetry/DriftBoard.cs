using System.Collections.Concurrent;
using System.Threading.Channels;

namespace TtaService.Serving.Telemetry;

/// <summary>The latest sweep of each model and what changed: the one place that metrics, dashboards and watchers read drift from. Thread-safe.</summary>
internal sealed class DriftBoard
{
    // Events kept for who comes later, and updates that wait for a watcher before its oldest are dropped.
    private const int KeptEvents = 1024;
    private const int WaitingUpdates = 256;

    private readonly ConcurrentDictionary<string, DriftReport> _latest = new(StringComparer.Ordinal);
    private readonly ConcurrentDictionary<Channel<DriftUpdate>, bool> _watchers = new();
    private readonly Queue<DriftUpdate> _events = new();

    /// <summary>The latest sweep of each model, by its name.</summary>
    public IReadOnlyDictionary<string, DriftReport> Latest => _latest;

    /// <summary>The last level changes and domain switches, oldest first.</summary>
    public IReadOnlyList<DriftUpdate> Events
    {
        get
        {
            lock (_events)
            {
                return [.. _events];
            }
        }
    }

    /// <summary>A stream as the latest sweep saw it; null when none did.</summary>
    public StreamDrift? Find(string stream) => _latest.Values.SelectMany(report => report.Streams).FirstOrDefault(drift => drift.Stream == stream);

    /// <summary>Watchers that are fed.</summary>
    public int Watchers => _watchers.Count;

    /// <summary>Every update from now on, until the watch is disposed of. A watcher that is slower than the sweeps loses the oldest ones.</summary>
    public DriftWatch Watch()
    {
        var channel = Channel.CreateBounded<DriftUpdate>(new BoundedChannelOptions(WaitingUpdates) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true });
        _watchers[channel] = true;
        return new DriftWatch(channel.Reader, () => _watchers.TryRemove(channel, out _));
    }

    /// <summary>Puts a sweep and what changed with it on the board.</summary>
    public void Publish(DriftReport report, IReadOnlyList<DriftUpdate> changes)
    {
        _latest[report.Model] = report;
        lock (_events)
        {
            foreach (var change in changes)
            {
                _events.Enqueue(change);
            }

            while (_events.Count > KeptEvents)
            {
                _events.Dequeue();
            }
        }

        foreach (var (watcher, _) in _watchers)
        {
            foreach (var change in changes)
            {
                watcher.Writer.TryWrite(change);
            }

            watcher.Writer.TryWrite(new Swept(report.Time, report));
        }
    }
}

/// <summary>What one watcher of the board hears.</summary>
internal sealed class DriftWatch(ChannelReader<DriftUpdate> updates, Action forget) : IDisposable
{
    /// <summary>The updates, as they come.</summary>
    public IAsyncEnumerable<DriftUpdate> ReadAsync(CancellationToken cancel) => updates.ReadAllAsync(cancel);

    public void Dispose() => forget();
}
