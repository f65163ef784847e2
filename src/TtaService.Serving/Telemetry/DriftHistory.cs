namespace TtaService.Serving.Telemetry;

/// <summary>The last hour of drift for the pages that draw it: a byte a site and column of 15 s, a byte a column for the score. Thread-safe.</summary>
/// <remarks>A byte is 0 for no data, else 1 + 16 (log2(value) + 4), value being 1 at the edge of normal; a column keeps the largest value of its time.</remarks>
internal sealed class DriftHistory(TimeProvider clock)
{
    public const int Columns = 240;

    // Past this many streams only the score is kept: 53 sites take 12.7 kB a stream.
    private const int MaxDetailed = 2_000;

    /// <summary>Streams that are remembered; those that were silent for longest make room. 100,000 scores take 35 MB.</summary>
    public const int MaxStreams = 100_000;

    private readonly Lock _gate = new();
    private readonly Dictionary<string, LinkedListNode<(string Stream, Track Track)>> _tracks = new(StringComparer.Ordinal);

    // The longest silent first.
    private readonly LinkedList<(string Stream, Track Track)> _order = new();
    private int _detailed;

    public static TimeSpan ColumnTime { get; } = TimeSpan.FromSeconds(15);

    /// <summary>The byte that stands for a value.</summary>
    public static byte Encode(double value) => value > 0 && double.IsFinite(value) ? (byte)Math.Clamp(Math.Round(1 + (16 * (Math.Log2(value) + 4))), 1, 255) : (byte)0;

    /// <summary>Takes note of a stream's score and of each site's drift over its limit, as of now.</summary>
    public void Add(string stream, double score, ReadOnlySpan<double> sites)
    {
        lock (_gate)
        {
            if (_tracks.TryGetValue(stream, out var place))
            {
                _order.Remove(place);
            }
            else
            {
                if (_tracks.Count == MaxStreams)
                {
                    Forget(_order.First!);
                }

                var detailed = _detailed < MaxDetailed && sites.Length > 0;
                _detailed += detailed ? 1 : 0;
                _tracks.Add(stream, place = new LinkedListNode<(string Stream, Track Track)>((stream, new Track(detailed ? sites.Length : 0))));
            }

            _order.AddLast(place);
            place.Value.Track.Add(Column, score, sites);
        }
    }

    /// <summary>The scores of a stream, oldest first, the last column being now; of one that is not known, no data.</summary>
    /// <param name="stream">Its name.</param>
    /// <param name="columns">At most <see cref="Columns"/>.</param>
    public byte[] Scores(string stream, int columns = Columns)
    {
        lock (_gate)
        {
            return _tracks.TryGetValue(stream, out var place) ? place.Value.Track.Scores(Column, columns) : new byte[columns];
        }
    }

    /// <summary>The sites of a stream, row by row in execution order, <see cref="Columns"/> each; empty when only its score is kept.</summary>
    public byte[] Sites(string stream)
    {
        lock (_gate)
        {
            return _tracks.TryGetValue(stream, out var place) ? place.Value.Track.Sites(Column) : [];
        }
    }

    /// <summary>Forgets streams that were silent for longer than is shown.</summary>
    public void Trim()
    {
        lock (_gate)
        {
            while (_order.First is { } oldest && oldest.Value.Track.Last < Column - Columns)
            {
                Forget(oldest);
            }
        }
    }

    private void Forget(LinkedListNode<(string Stream, Track Track)> place)
    {
        _order.Remove(place);
        _tracks.Remove(place.Value.Stream);
        _detailed -= place.Value.Track.IsDetailed ? 1 : 0;
    }

    private long Column => clock.GetUtcNow().ToUnixTimeMilliseconds() / (long)ColumnTime.TotalMilliseconds;

    // Rings; what lies between the last column and now was never written and counts as no data.
    private sealed class Track(int sites)
    {
        private readonly byte[] _scores = new byte[Columns];
        private readonly byte[] _sites = new byte[sites * Columns];

        public bool IsDetailed => sites > 0;

        public long Last { get; private set; } = long.MinValue / 2;

        public void Add(long column, double score, ReadOnlySpan<double> values)
        {
            // A clock that was set back writes on where it was.
            column = Math.Max(column, Last);
            for (var skipped = Math.Max(Last + 1, column - Columns + 1); skipped <= column; skipped++)
            {
                _scores[skipped % Columns] = 0;
                for (var site = 0; site < sites; site++)
                {
                    _sites[(site * Columns) + (skipped % Columns)] = 0;
                }
            }

            Last = column;
            var at = (int)(column % Columns);
            _scores[at] = Math.Max(_scores[at], Encode(score));
            for (var site = 0; site < Math.Min(sites, values.Length); site++)
            {
                ref var cell = ref _sites[(site * Columns) + at];
                cell = Math.Max(cell, Encode(values[site]));
            }
        }

        public byte[] Scores(long now, int columns)
        {
            var read = new byte[columns];
            Read(_scores, now, read);
            return read;
        }

        public byte[] Sites(long now)
        {
            var read = new byte[_sites.Length];
            for (var site = 0; site < sites; site++)
            {
                Read(_sites.AsSpan(site * Columns, Columns), now, read.AsSpan(site * Columns, Columns));
            }

            return read;
        }

        private void Read(ReadOnlySpan<byte> ring, long now, Span<byte> destination)
        {
            now = Math.Max(now, Last);
            for (var i = 0; i < destination.Length; i++)
            {
                var column = now - destination.Length + 1 + i;
                destination[i] = column <= Last && column > Last - Columns ? ring[(int)(((column % Columns) + Columns) % Columns)] : (byte)0;
            }
        }
    }
}
