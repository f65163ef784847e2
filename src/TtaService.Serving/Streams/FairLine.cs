namespace TtaService.Serving.Streams;

/// <summary>What one of those who share something was charged so far.</summary>
internal sealed class FairShare
{
    /// <summary>When its last turn ended, in the line's virtual time.</summary>
    public long End { get; set; }
}

/// <summary>A place in a line.</summary>
/// <param name="Who">Who waits.</param>
/// <param name="Share">Where it is charged.</param>
/// <param name="Begin">In the line's virtual time.</param>
/// <param name="Cost">What the turn is expected to take.</param>
/// <param name="Order">Of arrival.</param>
internal readonly record struct FairTurn<T>(T Who, FairShare Share, long Begin, long Cost, long Order)
{
    public long End => Begin + Cost;
}

/// <summary>Who is next where many want what is shared: the one whose turn ends first when each is charged what it takes. Not thread-safe.</summary>
/// <remarks>
/// Self-clocked fair queueing (Golestani, INFOCOM 1994): who asks for little passes those who ask for much, and who asks always waits for those who ask seldom.
/// The wait of a turn depends on how many others there are and on one of their turns, not on how much they ask for.
/// Who had less than the others keeps a little of what it is owed, so that among many who ask always it does not wait for a turn of each.
/// </remarks>
/// <param name="credit">What one that was away is owed at most.</param>
internal sealed class FairLine<T>(long credit = 0)
{
    private readonly PriorityQueue<FairTurn<T>, (long End, long Order)> _turns = new();
    private long _now;
    private long _arrivals;

    public int Count => _turns.Count;

    /// <summary>A turn that ends before this is of somebody who had less than the others.</summary>
    public long OwedUntil => _now;

    /// <summary>Whether the first in line is owed.</summary>
    public bool FirstIsOwed => _turns.TryPeek(out var first, out _) && first.End < _now;

    /// <summary>Those in line, in no order.</summary>
    public IEnumerable<T> Waiting => _turns.UnorderedItems.Select(item => item.Element.Who);

    /// <summary>Puts somebody in line, who must not stand in it yet.</summary>
    public void Add(T who, FairShare share, long cost) => PutBack(new FairTurn<T>(who, share, Math.Max(_now - credit, share.End), cost, _arrivals++));

    /// <summary>Takes the next one out. Costs nothing until it is charged.</summary>
    public FairTurn<T> Take() => _turns.Dequeue();

    /// <summary>Puts one that was taken out back to its place.</summary>
    public void PutBack(in FairTurn<T> turn) => _turns.Enqueue(turn, (turn.End, turn.Order));

    /// <summary>The turn is had.</summary>
    public void Charge(in FairTurn<T> turn, long cost)
    {
        turn.Share.End = turn.Begin + cost;
        _now = Math.Max(_now, turn.Share.End);
    }
}
