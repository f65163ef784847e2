namespace TtaService.Serving.Streams;

/// <summary>Where a stream stands with its line.</summary>
internal enum StreamPhase
{
    /// <summary>Nothing to do.</summary>
    Idle,

    /// <summary>Its first step is being decoded.</summary>
    Decoding,

    /// <summary>Its first step or operation may run.</summary>
    Ready,

    /// <summary>A step or an operation runs.</summary>
    Running,
}

/// <summary>What waits for its turn in a stream. Guarded like its queue.</summary>
internal abstract class QueuedWork(StreamQueue queue)
{
    /// <summary>Its stream's.</summary>
    public StreamQueue Queue { get; } = queue;

    /// <summary>Its place in the stream's queue; null once it has left.</summary>
    public LinkedListNode<QueuedWork>? Place { get; set; }

    /// <summary>May run as soon as it is the first.</summary>
    public abstract bool Ready { get; }

    /// <summary>Frames that it brings into a pass.</summary>
    public virtual int Frames => 0;
}

/// <summary>One stream's work in its order. Guarded by the gate of whose line it is.</summary>
internal sealed class StreamQueue
{
    public LinkedList<QueuedWork> Work { get; } = new();

    public StreamPhase Phase { get; set; }

    /// <summary>Its share of the passes.</summary>
    public FairShare Passes { get; } = new();

    /// <summary>Steps that were admitted and have no outcome yet.</summary>
    public int PendingSteps { get; set; }

    /// <summary>No work waits or runs.</summary>
    public bool IsEmpty => Work.Count == 0 && PendingSteps == 0 && Phase == StreamPhase.Idle;
}

/// <summary>Which stream is next: each runs its work in order and one at a time, those that may run stand in one line and are charged for their frames. Not thread-safe.</summary>
/// <remarks>A stream that asks seldom is owed up to <see cref="Credit"/> frames. Who is owed runs first, and in no company but its like: a camera does not wait for a round of
/// those that always have a step waiting, nor within a pass of theirs.</remarks>
/// <param name="ready">Hears that a stream may run.</param>
internal sealed class WorkLine(Action ready)
{
    /// <summary>Frames that a stream is owed at most.</summary>
    public const long Credit = 8;

    private readonly FairLine<StreamQueue> _line = new(Credit);
    private int _decodingStreams;

    /// <summary>Streams that may run.</summary>
    public int Count => _line.Count;

    /// <summary>Puts work at the end of its stream.</summary>
    public void Enter(QueuedWork work)
    {
        work.Place = work.Queue.Work.AddLast(work);
        Settle(work.Queue);
    }

    /// <summary>Takes work out of its stream, wherever it stands, if it did not leave before.</summary>
    public static void Leave(QueuedWork work)
    {
        if (work.Place is { } place)
        {
            work.Queue.Work.Remove(place);
            work.Place = null;
        }
    }

    /// <summary>The stream's turn is over.</summary>
    public void Done(StreamQueue queue)
    {
        queue.Phase = StreamPhase.Idle;
        Settle(queue);
    }

    /// <summary>Puts a stream in line when its first work may run. One that stands in line or runs is settled by who takes it out.</summary>
    public void Settle(StreamQueue queue)
    {
        if (queue.Phase is StreamPhase.Ready or StreamPhase.Running)
        {
            return;
        }

        var next = queue.Work.First?.Value switch
        {
            null => StreamPhase.Idle,
            { Ready: true } => StreamPhase.Ready,
            _ => StreamPhase.Decoding,
        };
        _decodingStreams += (next == StreamPhase.Decoding ? 1 : 0) - (queue.Phase == StreamPhase.Decoding ? 1 : 0);
        queue.Phase = next;
        if (next == StreamPhase.Ready)
        {
            _line.Add(queue, queue.Passes, queue.Work.First!.Value.Frames);
            ready();
        }
    }

    /// <summary>Whether those that may run leave room in a batch, and another is about to come. Who is owed does not wait for it.</summary>
    public bool CompanyIsComing(int maxFrames)
    {
        if (_decodingStreams == 0 || _line.Count == 0 || _line.FirstIsOwed)
        {
            return false;
        }

        var frames = 0;
        foreach (var queue in _line.Waiting)
        {
            frames += queue.Work.First?.Value.Frames ?? 0;
            if (frames >= maxFrames)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Takes the first of the line, then whoever fits with it; the others keep their places.</summary>
    /// <param name="maxFrames">No more are taken once the batch has so many.</param>
    /// <param name="onlyOwed">Takes none but those who are owed.</param>
    /// <param name="next">The stream's first work that may run; null when there is none any more.</param>
    /// <param name="take">Given the work and the frames so far: takes it, and returns what its stream is charged; null when it does not fit.</param>
    public void Form(int maxFrames, bool onlyOwed, Func<StreamQueue, QueuedWork?> next, Func<QueuedWork, int, int?> take)
    {
        var frames = 0;
        var owedUntil = _line.OwedUntil;
        var left = new List<FairTurn<StreamQueue>>();
        while (_line.Count > 0 && frames < maxFrames)
        {
            var turn = _line.Take();
            if (onlyOwed && turn.End >= owedUntil)
            {
                left.Add(turn);
                break;
            }

            // Out of the line and not to be put back while it is looked at.
            turn.Who.Phase = StreamPhase.Running;
            if (next(turn.Who) is not { } work)
            {
                Done(turn.Who);
            }
            else if (take(work, frames) is { } charged)
            {
                frames += charged;
                _line.Charge(turn, charged);
                onlyOwed |= charged > 0 && turn.End < owedUntil;
            }
            else
            {
                turn.Who.Phase = StreamPhase.Ready;
                left.Add(turn);
            }
        }

        left.ForEach(turn => _line.PutBack(turn));
    }
}
