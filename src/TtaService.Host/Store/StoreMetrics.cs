using System.Diagnostics.Metrics;

namespace TtaService.Host.Store;

/// <summary>What the store does, as metrics of the meter <c>TtaService.Store</c>.</summary>
internal sealed class StoreMetrics : IDisposable
{
    public const string MeterName = "TtaService.Store";

    private readonly Meter _meter = new(MeterName);
    private readonly Counter<long> _checkpoints;
    private readonly Counter<long> _bytes;
    private readonly Counter<long> _failures;
    private readonly Counter<long> _fenced;
    private readonly Counter<long> _takeovers;
    private readonly Counter<long> _openings;
    private double _oldestChange;
    private int _unsaved;

    public StoreMetrics()
    {
        _checkpoints = _meter.CreateCounter<long>("tta.checkpoint.writes", "{checkpoint}", "Checkpoints written");
        _bytes = _meter.CreateCounter<long>("tta.checkpoint.bytes", "By", "Bytes of checkpoints written");
        _failures = _meter.CreateCounter<long>("tta.store.failures", "{failure}", "Operations that the store did not serve");
        _fenced = _meter.CreateCounter<long>("tta.stream.fenced", "{stream}", "Streams given up because another replica opened them, or they were deleted");
        _takeovers = _meter.CreateCounter<long>("tta.stream.takeovers", "{stream}", "Streams opened here that another replica had not given up");
        _openings = _meter.CreateCounter<long>("tta.stream.openings", "{stream}", "Streams that came into memory, by what their state is: fresh, restored, reset, blind");
        _meter.CreateObservableGauge("tta.checkpoint.age", () => Volatile.Read(ref _oldestChange), "s", "Age of the oldest change that is not stored");
        _meter.CreateObservableGauge("tta.checkpoint.unsaved", () => Volatile.Read(ref _unsaved), "{stream}", "Streams with changes that are not stored");
    }

    public void Wrote(long bytes)
    {
        _checkpoints.Add(1);
        _bytes.Add(bytes);
    }

    public void Failed() => _failures.Add(1);

    public void Fenced() => _fenced.Add(1);

    public void TookOver() => _takeovers.Add(1);

    public void Opened(string state) => _openings.Add(1, new KeyValuePair<string, object?>("state", state));

    public void Waiting(int streams, TimeSpan oldest)
    {
        Volatile.Write(ref _unsaved, streams);
        Volatile.Write(ref _oldestChange, oldest.TotalSeconds);
    }

    public void Dispose() => _meter.Dispose();
}
