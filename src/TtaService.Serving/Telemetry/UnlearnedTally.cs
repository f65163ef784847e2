using TtaService.Engine.Execution;

namespace TtaService.Serving.Telemetry;

/// <summary>Counts the frames of a stream that were not learned, and says when that is news. Thread-safe.</summary>
internal sealed class UnlearnedTally
{
    private static readonly int Reasons = Enum.GetValues<NotLearnedReason>().Length;
    private static readonly TimeSpan Quiet = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly long[] _frames = new long[Reasons];
    private readonly long[] _before = new long[Reasons];
    private readonly DateTimeOffset[] _said = new DateTimeOffset[Reasons];

    /// <summary>Counts a frame.</summary>
    /// <returns>True when this reason was not said within the last minute.</returns>
    public bool Add(NotLearnedReason reason, DateTimeOffset now)
    {
        lock (_lock)
        {
            _frames[(int)reason]++;
            var due = now - _said[(int)reason] >= Quiet;
            _said[(int)reason] = due ? now : _said[(int)reason];
            return due;
        }
    }

    /// <summary>The reasons that had no frame between the two calls before and have some since, with their number.</summary>
    public IReadOnlyList<(NotLearnedReason Reason, long Frames)> Began()
    {
        lock (_lock)
        {
            List<(NotLearnedReason Reason, long Frames)> began = [];
            for (var reason = 0; reason < Reasons; reason++)
            {
                if (_frames[reason] > 0 && _before[reason] == 0)
                {
                    began.Add(((NotLearnedReason)reason, _frames[reason]));
                }

                (_before[reason], _frames[reason]) = (_frames[reason], 0);
            }

            return began;
        }
    }
}
