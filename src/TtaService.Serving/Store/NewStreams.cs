namespace TtaService.Serving.Store;

/// <summary>The streams that came into a store within the last hour, by the client that brought them, and whether one of these floods it. Not thread-safe.</summary>
/// <remarks>A client floods when what it brought within the hour is more than a quarter of what the store may hold: then its own newest streams leave, not the oldest of
/// all.</remarks>
internal sealed class NewStreams<T>(StoreOptions options, TimeProvider clock)
    where T : class
{
    private const int ShareOfFlood = 4;
    private static readonly TimeSpan Window = TimeSpan.FromHours(1);

    private readonly Dictionary<string, LinkedList<Arrival>> _byClient = new(StringComparer.Ordinal);
    private readonly Dictionary<T, LinkedListNode<Arrival>> _places = [];

    /// <summary>A stream came.</summary>
    /// <param name="client">Who brought it; empty for unknown, which never floods.</param>
    /// <param name="stream">The stream.</param>
    public void Add(string client, T stream)
    {
        if (client.Length == 0)
        {
            return;
        }

        if (!_byClient.TryGetValue(client, out var arrivals))
        {
            Prune();
            _byClient.Add(client, arrivals = new LinkedList<Arrival>());
        }

        Remove(stream);
        _places[stream] = arrivals.AddLast(new Arrival(client, stream, clock.GetTimestamp()));
    }

    /// <summary>A stream left.</summary>
    public void Remove(T stream)
    {
        if (_places.Remove(stream, out var place))
        {
            place.List!.Remove(place);
        }
    }

    /// <summary>The newest stream that may leave of the client that floods; null when none does.</summary>
    /// <param name="streamBytes">Bytes of a stream on the average.</param>
    /// <param name="mayLeave">Whether a stream may leave.</param>
    public T? NewestOfFlood(long streamBytes, Func<T, bool> mayLeave)
    {
        Prune();
        var largest = _byClient.Values.MaxBy(arrivals => arrivals.Count);
        if (largest is null || (largest.Count <= options.MaxStreams / ShareOfFlood && largest.Count * streamBytes <= options.MaxBytes / ShareOfFlood))
        {
            return null;
        }

        for (var place = largest.Last; place is not null; place = place.Previous)
        {
            if (mayLeave(place.Value.Stream))
            {
                return place.Value.Stream;
            }
        }

        return null;
    }

    private void Prune()
    {
        foreach (var (client, arrivals) in _byClient)
        {
            while (arrivals.First is { } first && clock.GetElapsedTime(first.Value.At) >= Window)
            {
                _places.Remove(first.Value.Stream);
                arrivals.RemoveFirst();
            }

            if (arrivals.Count == 0)
            {
                _byClient.Remove(client);
            }
        }
    }

    private sealed record Arrival(string Client, T Stream, long At);
}
