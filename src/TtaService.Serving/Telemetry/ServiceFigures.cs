using System.Diagnostics.Metrics;

namespace TtaService.Serving.Telemetry;

/// <summary>What the service did in the last minute, for its own page: it listens to the same instruments that Prometheus reads. Thread-safe.</summary>
internal sealed class ServiceFigures : IDisposable
{
    private const int Slices = 12;

    // Ten buckets a doubling from 10 us on: a quantile is right within 4 %.
    private const int Buckets = 320;
    private const double SmallestSeconds = 1e-5;
    private const double BucketsPerOctave = 10;

    private static readonly TimeSpan SliceTime = TimeSpan.FromSeconds(5);

    private readonly TimeProvider _clock;
    private readonly MeterListener _listener = new();
    private readonly Lock _gate = new();
    private readonly Slice[] _slices = [.. Enumerable.Range(0, Slices).Select(_ => new Slice())];
    private readonly long _started;

    public ServiceFigures(IMeterFactory meters, TimeProvider clock)
    {
        _clock = clock;
        _started = clock.GetTimestamp();
        // Of this host only: others may run in the process.
        _listener.InstrumentPublished = (instrument, listener) =>
        {
            if (instrument.Meter.Name == TtaMetrics.MeterName && ReferenceEquals(instrument.Meter.Scope, meters))
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Take(instrument.Name, value, tags));
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Take(instrument.Name, value, tags));
        _listener.Start();
    }

    /// <summary>The last minute, or the time since the start when that is shorter.</summary>
    public ServiceReport Read()
    {
        lock (_gate)
        {
            var sum = new Slice();
            var now = Index;
            foreach (var slice in _slices.Where(slice => slice.Index > now - Slices))
            {
                sum.Add(slice);
            }

            var window = Math.Max(1, Math.Min(_clock.GetElapsedTime(_started).TotalSeconds, Slices * SliceTime.TotalSeconds));
            return new ServiceReport
            {
                WindowSeconds = window,
                StepsPerSecond = sum.Steps / window,
                FramesPerSecond = sum.Frames / window,
                ErrorsPerSecond = sum.Errors.Values.Sum() / window,
                P50Milliseconds = sum.Quantile(0.5),
                P99Milliseconds = sum.Quantile(0.99),
                FramesPerBatch = sum.Batches == 0 ? null : (double)sum.Frames / sum.Batches,
                StepsPerBatch = sum.Batches == 0 ? null : (double)sum.BatchSteps / sum.Batches,
                Phases = [.. sum.Phases
                .OrderBy(phase => phase.Key, StringComparer.Ordinal)
                .Select(phase => new PhaseTime(phase.Key, 1000 * phase.Value.Seconds / phase.Value.Count))],
                Errors = Counted(sum.Errors),
                Rejected = Counted(sum.Rejected),
            };
        }
    }

    public void Dispose() => _listener.Dispose();

    private static IReadOnlyList<NamedCount> Counted(Dictionary<string, long> counts) =>
        [.. counts.OrderByDescending(count => count.Value).Select(count => new NamedCount(count.Key, count.Value))];

    private static string? Find(ReadOnlySpan<KeyValuePair<string, object?>> tags, string key)
    {
        foreach (var tag in tags)
        {
            if (tag.Key == key)
            {
                return tag.Value as string;
            }
        }

        return null;
    }

    private long Index => _clock.GetElapsedTime(0, _clock.GetTimestamp()).Ticks / SliceTime.Ticks;

    private void Take(string instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (instrument == MetricCatalogue.StepDuration.Name)
        {
            var error = Find(tags, MetricCatalogue.ErrorType);
            lock (_gate)
            {
                var slice = Current();
                slice.Steps++;
                slice.Buckets[BucketOf(value)]++;
                if (error is not null)
                {
                    slice.Errors[error] = slice.Errors.GetValueOrDefault(error) + 1;
                }
            }
        }
        else if (instrument == MetricCatalogue.StepPhaseDuration.Name && Find(tags, MetricCatalogue.Phase) is { } phase)
        {
            lock (_gate)
            {
                var (seconds, count) = Current().Phases.GetValueOrDefault(phase);
                Current().Phases[phase] = (seconds + value, count + 1);
            }
        }
    }

    private void Take(string instrument, long value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
    {
        if (instrument == MetricCatalogue.BatchSize.Name)
        {
            lock (_gate)
            {
                Current().Frames += value;
                Current().Batches++;
            }
        }
        else if (instrument == MetricCatalogue.BatchSteps.Name)
        {
            lock (_gate)
            {
                Current().BatchSteps += value;
            }
        }
        else if (instrument == MetricCatalogue.FrameRejected.Name && Find(tags, MetricCatalogue.RejectReason) is { } reason)
        {
            lock (_gate)
            {
                Current().Rejected[reason] = Current().Rejected.GetValueOrDefault(reason) + value;
            }
        }
    }

    private Slice Current()
    {
        var index = Index;
        var slice = _slices[index % Slices];
        if (slice.Index != index)
        {
            slice.Clear(index);
        }

        return slice;
    }

    private static int BucketOf(double seconds) => seconds <= SmallestSeconds ? 0 : Math.Min(Buckets - 1, (int)(BucketsPerOctave * Math.Log2(seconds / SmallestSeconds)));

    private sealed class Slice
    {
        public long Index { get; private set; } = long.MinValue;

        public long Steps { get; set; }

        public long Frames { get; set; }

        public long Batches { get; set; }

        public long BatchSteps { get; set; }

        public long[] Buckets { get; } = new long[ServiceFigures.Buckets];

        // Room from the start: a step is to allocate nothing, in a new slice too.
        public Dictionary<string, (double Seconds, long Count)> Phases { get; } = new(16);

        public Dictionary<string, long> Errors { get; } = [];

        public Dictionary<string, long> Rejected { get; } = [];

        public void Clear(long index)
        {
            (Index, Steps, Frames, Batches, BatchSteps) = (index, 0, 0, 0, 0);
            Array.Clear(Buckets);
            Phases.Clear();
            Errors.Clear();
            Rejected.Clear();
        }

        public void Add(Slice other)
        {
            Steps += other.Steps;
            Frames += other.Frames;
            Batches += other.Batches;
            BatchSteps += other.BatchSteps;
            for (var i = 0; i < Buckets.Length; i++)
            {
                Buckets[i] += other.Buckets[i];
            }

            foreach (var (name, time) in other.Phases)
            {
                var (seconds, count) = Phases.GetValueOrDefault(name);
                Phases[name] = (seconds + time.Seconds, count + time.Count);
            }

            foreach (var (name, count) in other.Errors)
            {
                Errors[name] = Errors.GetValueOrDefault(name) + count;
            }

            foreach (var (name, count) in other.Rejected)
            {
                Rejected[name] = Rejected.GetValueOrDefault(name) + count;
            }
        }

        // Null without steps; else the middle of the bucket, in milliseconds.
        public double? Quantile(double share)
        {
            var wanted = (long)Math.Ceiling(share * Steps);
            var below = 0L;
            for (var i = 0; i < Buckets.Length && Steps > 0; i++)
            {
                below += Buckets[i];
                if (below >= wanted)
                {
                    return 1000 * SmallestSeconds * Math.Pow(2, (i + 0.5) / BucketsPerOctave);
                }
            }

            return null;
        }
    }
}

/// <summary>What the service did within a window.</summary>
internal sealed record ServiceReport
{
    public required double WindowSeconds { get; init; }

    public required double StepsPerSecond { get; init; }

    public required double FramesPerSecond { get; init; }

    public required double ErrorsPerSecond { get; init; }

    /// <summary>Null when there was no step.</summary>
    public required double? P50Milliseconds { get; init; }

    /// <summary>Null when there was no step.</summary>
    public required double? P99Milliseconds { get; init; }

    public required double? FramesPerBatch { get; init; }

    public required double? StepsPerBatch { get; init; }

    /// <summary>Mean time by phase.</summary>
    public required IReadOnlyList<PhaseTime> Phases { get; init; }

    public required IReadOnlyList<NamedCount> Errors { get; init; }

    public required IReadOnlyList<NamedCount> Rejected { get; init; }
}

/// <summary>Mean time of a phase.</summary>
internal sealed record PhaseTime(string Name, double Milliseconds);

/// <summary>How often something happened.</summary>
internal sealed record NamedCount(string Name, long Count);
