using Microsoft.Extensions.Options;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>Bytes of messages that are on their way, by connection and in all. Guarded by <see cref="MessageBudget"/>.</summary>
internal sealed class ConnectionMessages
{
    public long Bytes { get; set; }

    /// <summary>Calls with a message that is not complete.</summary>
    public HashSet<RequestMessages> Unfinished { get; } = [];
}

/// <summary>Bounds the bytes of messages that have begun and were not taken by the server yet. They count with the length that their header tells, before the bytes are
/// here.</summary>
internal sealed class MessageBudget(IOptions<ServerOptions> server)
{
    private readonly ServerOptions _server = server.Value;
    private readonly Lock _gate = new();
    private readonly HashSet<ConnectionMessages> _busy = [];
    private long _bytes;

    /// <summary>Bytes that are counted now.</summary>
    public long Bytes
    {
        get
        {
            lock (_gate)
            {
                return _bytes;
            }
        }
    }

    /// <summary>Counts bytes of a call; null when there is room, or room was made by ending calls that hold more.</summary>
    /// <param name="call">Whose.</param>
    /// <param name="bytes">How many.</param>
    /// <param name="isWhole">They are here already; otherwise the call may be ended to make room until <see cref="Finish"/>.</param>
    public Failure? Take(RequestMessages call, long bytes, bool isWhole)
    {
        List<RequestMessages>? ended = null;
        Failure? refusal;
        lock (_gate)
        {
            refusal = WhyRefused(call, bytes, ref ended);
            if (refusal is null)
            {
                Count(call, bytes);
                if (!isWhole)
                {
                    call.Connection.Unfinished.Add(call);
                }
            }
        }

        // Outside the gate: their calls go on from there.
        ended?.ForEach(static call => call.End(Refused(
            "MESSAGES_BUSY",
            "other clients need the room that the call's unfinished message had reserved",
            "Server:MaxTotalMessageBytes and Server:MaxConnectionMessageBytes")));
        return refusal;
    }

    /// <summary>The call's message is complete: it keeps its room until it is taken.</summary>
    public void Finish(RequestMessages call)
    {
        lock (_gate)
        {
            call.Connection.Unfinished.Remove(call);
        }
    }

    /// <summary>Gives back what the call holds.</summary>
    public void GiveBack(RequestMessages call)
    {
        lock (_gate)
        {
            call.Connection.Unfinished.Remove(call);
            Count(call, -call.HeldBytes);
        }
    }

    private void Count(RequestMessages call, long bytes)
    {
        call.HeldBytes += bytes;
        call.Connection.Bytes += bytes;
        _bytes += bytes;
        if (call.Connection.Bytes > 0)
        {
            _busy.Add(call.Connection);
        }
        else
        {
            _busy.Remove(call.Connection);
        }
    }

    private Failure? WhyRefused(RequestMessages call, long bytes, ref List<RequestMessages>? ended)
    {
        var mine = call.Connection;
        while (mine.Bytes + bytes > _server.MaxConnectionMessageBytes)
        {
            // A small message is not refused for a larger one that only waits.
            if (Largest(mine, call) is not { } larger || larger.HeldBytes <= bytes)
            {
                return Refused(
                    "CONNECTION_BUSY",
                    $"{mine.Bytes} bytes of messages are on their way on this connection and one of {bytes} comes, the limit is {_server.MaxConnectionMessageBytes}",
                    "Server:MaxConnectionMessageBytes");
            }

            EndOne(larger, ref ended);
        }

        while (_bytes + bytes > _server.MaxTotalMessageBytes)
        {
            var busiest = _busy.Where(connection => connection.Unfinished.Count > 0).MaxBy(connection => connection.Bytes);
            if (busiest is null || busiest.Bytes <= mine.Bytes + bytes || Largest(busiest, call) is not { } larger)
            {
                return Refused(
                    "SERVER_BUSY",
                    $"{_bytes} bytes of messages are on their way and one of {bytes} comes, the limit is {_server.MaxTotalMessageBytes}",
                    "Server:MaxTotalMessageBytes");
            }

            EndOne(larger, ref ended);
        }

        return null;
    }

    private static RequestMessages? Largest(ConnectionMessages connection, RequestMessages but) => connection.Unfinished.Where(call => call != but).MaxBy(call => call.HeldBytes);

    private void EndOne(RequestMessages call, ref List<RequestMessages>? ended)
    {
        call.Connection.Unfinished.Remove(call);
        Count(call, -call.HeldBytes);
        (ended ??= []).Add(call);
    }

    private static Failure Refused(string reason, string why, string settings) =>
        new(FailureKind.ResourceExhausted, reason, $"{why} ({settings}); send again later") { RetryAfter = TimeSpan.FromSeconds(1) };
}
