using TtaService.Engine.Drift;

namespace TtaService.Serving.Telemetry;

/// <summary>What is known of one stream's drift between sweeps. The level and the last reading belong to the sweep.</summary>
internal sealed class StreamWatch(StreamHealth health)
{
    private readonly DriftLevelTracker _level = new();
    private long _changedAtStep;
    private long _rolledBackAt = -1;

    public StreamHealth Health { get; } = health;

    /// <summary>Frames that were answered and not learned.</summary>
    public UnlearnedTally NotLearned { get; } = new();

    /// <summary>The last reading; null before the first.</summary>
    public DriftReading? Last { get; private set; }

    /// <summary>A reading that was taken and not judged yet.</summary>
    public DriftReading? Pending { get; set; }

    public DriftLevel Level => _level.Level;

    /// <summary>The stream had collapsed at this step and starts from the source statistics again. From any thread.</summary>
    public void RolledBack(long step) => Interlocked.Exchange(ref _rolledBackAt, step);

    /// <summary>The step of the last roll-back that was not told yet; null when all were.</summary>
    public long? TakeRollBack() => Interlocked.Exchange(ref _rolledBackAt, -1) is >= 0 and var step ? step : null;

    /// <summary>Takes a reading, and says what it changed.</summary>
    public (bool Level, bool Domain) Update(DriftReading reading)
    {
        Last = reading;
        var switched = reading.ChangedAtStep > 0 && reading.ChangedAtStep != _changedAtStep;
        _changedAtStep = reading.ChangedAtStep;
        return (_level.Update(reading), switched);
    }
}
