namespace TtaService.Engine.Drift;

/// <summary>How far a stream is from normal, in words.</summary>
public enum DriftLevel
{
    /// <summary>The model has no reference to judge by.</summary>
    Uncalibrated,

    /// <summary>Too few frames were observed yet.</summary>
    WarmingUp,

    /// <summary>As on in-distribution frames.</summary>
    Normal,

    /// <summary>Beyond what normal frames do.</summary>
    Warning,

    /// <summary>Far beyond it.</summary>
    Critical,
}

/// <summary>The level of one stream: entered after some readings in a row, left at a lower score than it was entered at. Not thread-safe.</summary>
internal sealed class DriftLevelTracker
{
    /// <summary>Frames before a stream is judged.</summary>
    public const long WarmUpFrames = 128;

    /// <summary>The score of the warning level.</summary>
    public const double Warning = 1;

    /// <summary>The score of the critical level.</summary>
    public const double Critical = 3;

    /// <summary>A level is left below this share of the score that it is entered at.</summary>
    public const double LeavingShare = 0.8;

    /// <summary>Readings in a row, each with new frames, that enter a level.</summary>
    public const int ReadingsToEnter = 3;

    private long _frames;
    private int _aboveWarning;
    private int _aboveCritical;

    /// <summary>The present level.</summary>
    public DriftLevel Level { get; private set; } = DriftLevel.WarmingUp;

    /// <summary>Takes a reading.</summary>
    /// <returns>Whether the level changed.</returns>
    public bool Update(DriftReading reading)
    {
        var before = Level;
        if (reading.Score is not { } score)
        {
            Level = DriftLevel.Uncalibrated;
        }
        else if (reading.Frames < WarmUpFrames)
        {
            // Also after a reset, which observes anew.
            (Level, _aboveWarning, _aboveCritical) = (DriftLevel.WarmingUp, 0, 0);
        }
        else if (reading.Frames != _frames || Level is DriftLevel.Uncalibrated)
        {
            // A stream that stands still shows nothing new.
            _aboveWarning = score >= Warning ? _aboveWarning + 1 : 0;
            _aboveCritical = score >= Critical ? _aboveCritical + 1 : 0;
            Level = Next(score);
        }

        _frames = reading.Frames;
        return Level != before;
    }

    private DriftLevel Next(double score)
    {
        if (_aboveCritical >= ReadingsToEnter || (Level == DriftLevel.Critical && score >= LeavingShare * Critical))
        {
            return DriftLevel.Critical;
        }

        return Level == DriftLevel.Critical && score >= Warning ? DriftLevel.Warning
            : _aboveWarning >= ReadingsToEnter || (Level is DriftLevel.Warning or DriftLevel.Critical && score >= LeavingShare * Warning) ? DriftLevel.Warning
            // Not called normal on the way to its first level.
            : Level == DriftLevel.WarmingUp && score >= Warning ? DriftLevel.WarmingUp
            : DriftLevel.Normal;
    }
}
