using System.Diagnostics;

namespace TtaService.Serving.Streams;

/// <summary>What a stream has to decode. Guarded by <see cref="DecodeTurns"/>.</summary>
internal sealed class DecodeShare
{
    /// <summary>Its steps with turns that were not given yet, in their order. The first stands in line.</summary>
    public LinkedList<DecodeTurns.Job> Jobs { get; } = new();

    public FairShare Light { get; } = new();

    public FairShare Heavy { get; } = new();
}

/// <summary>Bounds how many frames are decoded at a time, so that decoding leaves processors to the device thread and the network, and gives the turns to streams fairly, frame by frame.</summary>
/// <remarks>
/// A frame is decoded in one go, and a hostile one takes a second. So frames that cost more than a camera's wait in a line of their own: cheap ones never wait for them.
/// While cheap frames come, the dear ones leave a processor free. They are decoded on threads that give way to all others, and take none of the pool's, on which everything else waits.
/// </remarks>
internal sealed class DecodeTurns
{
    /// <summary>Source pixels times scans up to which a frame is cheap: a picture of 1920x1080, some 10 ms.</summary>
    public const long LightCost = 1920 * 1088;

    private static readonly TimeSpan LightsAreSoonAgain = TimeSpan.FromSeconds(1);

    private readonly Lock _gate = new();
    private readonly Lane _light = new();
    private readonly Lane _heavy = new();
    private readonly YieldingThreads _heavyThreads = new("tta-decode");
    private readonly int _places;
    private long _lightSeen;

    public DecodeTurns(BatchingOptions options) => _places = options.DecodeConcurrency > 0 ? options.DecodeConcurrency : Environment.ProcessorCount;

    /// <summary>Decodes a step in turn with the others.</summary>
    /// <param name="share">The stream's.</param>
    /// <param name="decoding">The frames.</param>
    /// <param name="isWanted">Asked before each turn; false gives up the others.</param>
    /// <param name="unwanted">Gives up the turns that it has not had, at once, when it completes.</param>
    /// <returns>The frames, or null when it was given up, and the time that its turns took.</returns>
    /// <exception cref="FailureException">A frame is bad.</exception>
    public async Task<(DecodedFrames? Frames, TimeSpan Busy)> DecodeAsync(DecodeShare share, StepDecoding decoding, Func<bool> isWanted, Task unwanted)
    {
        using (decoding)
        {
            // Before it stands in line: to ask for the costs is a walk over the files.
            var job = new Job(decoding, isWanted);
            lock (_gate)
            {
                job.Place = share.Jobs.AddLast(job);
                if (share.Jobs.Count == 1)
                {
                    StandInLine(share);
                }

                GiveTurns();
            }

            if (await Task.WhenAny(job.Done.Task, unwanted).ConfigureAwait(false) == unwanted)
            {
                GiveUp(share, job);
            }

            await job.Done.Task.ConfigureAwait(false);
            return (job.GivenUp ? null : decoding.Take(), Stopwatch.GetElapsedTime(0, job.BusyTicks));
        }
    }

    // What the step holds goes with it, also while its stream still stands in line.
    private void GiveUp(DecodeShare share, Job job)
    {
        lock (_gate)
        {
            job.GivenUp = true;
            if (job.Place is { } place && share.Jobs.First != place)
            {
                Leave(job);
            }

            CompleteWhenDone(job);
        }
    }

    private static void Leave(Job job)
    {
        job.Place!.List!.Remove(job.Place);
        job.Place = null;
        job.AllGiven = true;
    }

    // The next turn of the stream's first step; what is not wanted any more goes. Under the gate.
    private void StandInLine(DecodeShare share)
    {
        while (share.Jobs.First?.Value is { } job)
        {
            job.GivenUp |= !job.IsWanted();
            if (!job.GivenUp && job.Next < job.Costs.Length)
            {
                var cost = job.Costs[job.Next];
                if (cost <= LightCost)
                {
                    _light.Line.Add(share, share.Light, cost);
                }
                else
                {
                    _heavy.Line.Add(share, share.Heavy, cost);
                }

                return;
            }

            Leave(job);
            CompleteWhenDone(job);
        }
    }

    // Under the gate. Each lane has a place at least, so that none waits for the other.
    private void GiveTurns()
    {
        while (true)
        {
            if (_light.Line.Count > 0 && _light.Running < Math.Max(1, _places - _heavy.Running))
            {
                _lightSeen = Stopwatch.GetTimestamp();
                Give(_light);
            }
            else if (_heavy.Line.Count > 0 && _heavy.Running < Math.Max(1, Math.Min(PlacesForHeavy(), _places - _light.Running)))
            {
                Give(_heavy);
            }
            else
            {
                return;
            }
        }
    }

    private int PlacesForHeavy() => _lightSeen != 0 && Stopwatch.GetElapsedTime(_lightSeen) < LightsAreSoonAgain ? _places - 1 : _places;

    private void Give(Lane lane)
    {
        var turn = lane.Line.Take();
        var share = turn.Who;
        var job = share.Jobs.First!.Value;
        job.GivenUp |= !job.IsWanted();
        if (!job.GivenUp)
        {
            lane.Line.Charge(turn, turn.Cost);
            lane.Running++;
            job.Running++;
            var next = new Turn(this, lane, job, job.Next++);
            if (lane == _heavy)
            {
                _heavyThreads.Run(next.Have, next.End);
            }
            else
            {
                ThreadPool.UnsafeQueueUserWorkItem(next, preferLocal: false);
            }
        }

        StandInLine(share);
    }

    private static void CompleteWhenDone(Job job)
    {
        if (job.Running > 0 || !(job.AllGiven || job.GivenUp))
        {
            return;
        }

        job.Decoding = null;
        if (job.Failure is { } failure)
        {
            job.Done.TrySetException(failure);
        }
        else
        {
            job.Done.TrySetResult();
        }
    }

    /// <summary>A step that is being decoded.</summary>
    internal sealed class Job(StepDecoding decoding, Func<bool> isWanted)
    {
        // A field, since it is read outside the gate as well.
        public bool GivenUp;

        /// <summary>Null when no turn comes any more.</summary>
        public StepDecoding? Decoding { get; set; } = decoding;

        public Func<bool> IsWanted { get; } = isWanted;

        public long[] Costs { get; } = [.. Enumerable.Range(0, decoding.Turns).Select(decoding.CostOf)];

        /// <summary>Its place among the stream's; null once all its turns were given.</summary>
        public LinkedListNode<Job>? Place { get; set; }

        /// <summary>The turn that is given next.</summary>
        public int Next { get; set; }

        public int Running { get; set; }

        public bool AllGiven { get; set; }

        public long BusyTicks { get; set; }

        public Exception? Failure { get; set; }

        public TaskCompletionSource Done { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }

    /// <summary>A turn that was given.</summary>
    private sealed class Turn(DecodeTurns turns, Lane lane, Job job, int turn) : IThreadPoolWorkItem
    {
        private long _ticks;
        private Exception? _failure;

        public void Execute()
        {
            Have();
            End();
        }

        public void Have()
        {
            var began = Stopwatch.GetTimestamp();
            try
            {
                if (!Volatile.Read(ref job.GivenUp))
                {
                    job.Decoding!.Decode(turn);
                }
            }
            catch (Exception bad)
            {
                _failure = bad;
            }

            _ticks = Stopwatch.GetTimestamp() - began;
        }

        public void End()
        {
            lock (turns._gate)
            {
                lane.Running--;
                job.Running--;
                job.BusyTicks += _ticks;
                if (_failure is not null)
                {
                    job.Failure ??= _failure;
                    job.GivenUp = true;
                }

                CompleteWhenDone(job);
                turns.GiveTurns();
            }
        }
    }

    private sealed class Lane
    {
        public FairLine<DecodeShare> Line { get; } = new();

        public int Running { get; set; }
    }
}
