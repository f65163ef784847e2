using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Decides whose state is in the model's arena: the least recently used streams leave it as snapshots and come back on their next step. Used on the engine's thread
/// only.</summary>
internal sealed partial class StreamResidency(string modelName, TtaMetrics metrics, TimeProvider clock, ILogger logger)
{
    // Least recently used first.
    private readonly LinkedList<StreamSession> _resident = new();

    /// <summary>Brings the states of these streams into the arena, all at a time.</summary>
    /// <exception cref="ArenaFullException">They do not fit together.</exception>
    public void Enter(AdaptiveModel model, IReadOnlyList<StreamSession> sessions)
    {
        var here = 0;
        foreach (var session in sessions)
        {
            // Those that are here already must not leave to make room for the others.
            here += Touch(session) ? 1 : 0;
        }

        foreach (var session in sessions)
        {
            if (session.State is { IsResident: false } state)
            {
                MakeRoom(model, session.StateBytes, here);
                model.Restore(state, session.Place.Cold);
                session.Place.Cold = null;
                session.Keeping.Evicted = false;
                session.Place.Resident = _resident.AddLast(session);
                metrics.StreamMoved(modelName, StreamTransition.Restored);
                here++;
            }
        }
    }

    /// <summary>Makes a state after making room for it; the <paramref name="keep"/> most recently used streams stay.</summary>
    public StreamState Create(AdaptiveModel model, long bytes, Func<AdaptiveModel, StreamState> create, int keep = 0)
    {
        MakeRoom(model, bytes, keep);
        return create(model);
    }

    /// <summary>Takes note of a stream whose state was just created.</summary>
    public void Add(StreamSession session)
    {
        Forget(session);
        session.Place.Resident = _resident.AddLast(session);
    }

    /// <summary>Gives a stream's state back, resident or not.</summary>
    public void Release(AdaptiveModel model, StreamSession session)
    {
        Forget(session);
        session.Place.Cold = null;
        session.Keeping.Evicted = false;
        if (session.State is { } state)
        {
            model.Release(state);
            session.End();
        }
    }

    private bool Touch(StreamSession session)
    {
        if (session.Place.Resident is not { } place)
        {
            return false;
        }

        _resident.Remove(place);
        _resident.AddLast(place);
        return true;
    }

    private void MakeRoom(AdaptiveModel model, long bytes, int keep)
    {
        while (model.ResidentBytes + bytes > model.ArenaBytes && Coldest(keep) is { } coldest)
        {
            coldest.Place.Cold = model.Evict(coldest.State!, clock.GetUtcNow());
            coldest.Keeping.Evicted = true;
            Forget(coldest);
            metrics.StreamMoved(modelName, StreamTransition.Evicted);
            Log.StreamEvicted(logger, coldest.Name);
        }
    }

    // Among all but the most recently used; pinned streams stay.
    private StreamSession? Coldest(int keep)
    {
        var place = _resident.First;
        for (var candidates = _resident.Count - keep; candidates > 0; candidates--)
        {
            if (!place!.Value.Settings.Pinned)
            {
                return place.Value;
            }

            place = place.Next;
        }

        return null;
    }

    private void Forget(StreamSession session)
    {
        if (session.Place.Resident is { } place)
        {
            _resident.Remove(place);
            session.Place.Resident = null;
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 14, Level = LogLevel.Debug, Message = "StreamEvicted {Stream}: the arena is full")]
        public static partial void StreamEvicted(ILogger logger, string stream);
    }
}
