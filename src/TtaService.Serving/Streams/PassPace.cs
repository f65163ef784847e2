namespace TtaService.Serving.Streams;

/// <summary>How many frames a pass may have so that it takes no longer than <see cref="BatchingOptions.MaxPassTime"/>: who comes while it runs waits for its end. Guarded by the
/// batcher's gate.</summary>
/// <remarks>What a pass saves by having many frames it saves with a few; the rest is waiting.</remarks>
internal sealed class PassPace(BatchingOptions options)
{
    /// <summary>A pass may have so many frames however long it takes.</summary>
    public const int AlwaysAllowed = 8;

    // Of the passes before: the last ten or so tell how fast it goes now.
    private const double Kept = 0.9;

    private double _frames;
    private double _seconds;

    /// <summary>Frames that different streams may bring into one pass.</summary>
    public int MaxFrames
    {
        get
        {
            var inTime = _seconds > 0 ? options.MaxPassTime.TotalSeconds * _frames / _seconds : options.MaxFrames;
            return (int)Math.Min(options.MaxFrames, Math.Max(AlwaysAllowed, inTime));
        }
    }

    /// <summary>A pass of so many frames took so long.</summary>
    public void Ran(int frames, TimeSpan run)
    {
        _frames = (Kept * _frames) + frames;
        _seconds = (Kept * _seconds) + run.TotalSeconds;
    }
}
