using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>How long a call may keep the server waiting, and what it is told then.</summary>
internal sealed record Patience(TimeSpan Time, Failure Late);

/// <summary>What the messages of a method may be.</summary>
internal sealed class RequestLimits(MessageFields fields, bool isSingle, ServerOptions server, StreamsOptions streams)
{
    /// <summary>Of a message, unpacked.</summary>
    public int MaxBytes { get; } = server.MaxMessageBytes;

    public MessageFields Fields { get; } = fields;

    /// <summary>The client sends one message and nothing behind it.</summary>
    public bool IsSingle { get; } = isSingle;

    /// <summary>For the first message.</summary>
    public Patience First { get; } = isSingle
        ? Message(server, "the request was not complete")
        : new(streams.FirstMessageTimeout, new(FailureKind.DeadlineExceeded, "OPEN_TIMEOUT", $"no message came within {Seconds(streams.FirstMessageTimeout)} (Streams:FirstMessageTimeout); open the stream first"));

    /// <summary>For a further message.</summary>
    public Patience Next { get; } = new(
        streams.CallIdleTimeout, new(FailureKind.DeadlineExceeded, "CALL_IDLE", $"no step came within {Seconds(streams.CallIdleTimeout)} (Streams:CallIdleTimeout); the stream stays, open it again"));

    /// <summary>For the rest of a message that has begun.</summary>
    public Patience Rest { get; } = Message(server, "a message that had begun was not complete");

    private static Patience Message(ServerOptions server, string what) =>
        new(server.MessageTimeout, new(FailureKind.DeadlineExceeded, "MESSAGE_TIMEOUT", $"{what} within {Seconds(server.MessageTimeout)} (Server:MessageTimeout); send it faster, or smaller"));

    private static string Seconds(TimeSpan time) => string.Create(System.Globalization.CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
