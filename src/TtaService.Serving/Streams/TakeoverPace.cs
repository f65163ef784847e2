namespace TtaService.Serving.Streams;

/// <summary>How fast calls may take one stream from each other. The first few within a minute are free, as a camera needs whose connection broke; each further one waits twice as
/// long. Not thread-safe.</summary>
internal sealed class TakeoverPace(TimeProvider clock)
{
    /// <summary>Take-overs in a row that need not wait.</summary>
    public const int Free = 3;

    private const int MostDoublings = 16;
    private static readonly TimeSpan Forgotten = TimeSpan.FromMinutes(1);
    private static readonly TimeSpan FirstWait = TimeSpan.FromMilliseconds(100);

    private int _takeovers;
    private long _at;

    /// <summary>Longest wait.</summary>
    public static TimeSpan LongestWait { get; } = TimeSpan.FromSeconds(10);

    /// <summary>Counts a take-over. Returns how many there were in a row, and how long this one is to wait.</summary>
    public (int Takeovers, TimeSpan Wait) Next()
    {
        _takeovers = _takeovers > 0 && clock.GetElapsedTime(_at) < Forgotten ? _takeovers + 1 : 1;
        _at = clock.GetTimestamp();
        if (_takeovers <= Free)
        {
            return (_takeovers, TimeSpan.Zero);
        }

        var wait = FirstWait * Math.Pow(2, Math.Min(MostDoublings, _takeovers - Free - 1));
        return (_takeovers, wait < LongestWait ? wait : LongestWait);
    }
}
