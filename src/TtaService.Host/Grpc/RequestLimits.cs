using System.Globalization;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>How long a call may keep the server waiting, and what it is told then.</summary>
internal sealed record Patience(TimeSpan Time, Failure Late);

/// <summary>What the messages of a method may be.</summary>
/// <param name="Fields">Of a message.</param>
/// <param name="IsSingle">The client sends one message and nothing behind it.</param>
/// <param name="MaxBytes">Of a message, unpacked.</param>
/// <param name="First">For the first message.</param>
/// <param name="Next">For a further message.</param>
/// <param name="Rest">For the rest of a message that has begun.</param>
internal sealed record RequestLimits(MessageFields Fields, bool IsSingle, int MaxBytes, Patience First, Patience Next, Patience Rest)
{
    private static readonly Patience Little = new(TimeSpan.FromSeconds(1), Failure.Stopping());

    public static RequestLimits Of(MessageFields fields, bool isSingle, ServerOptions server, StreamsOptions streams) => new(
        fields,
        isSingle,
        server.MaxMessageBytes,
        isSingle ? Message(server, "the request was not complete") : Late(streams.FirstMessageTimeout, "OPEN_TIMEOUT", $"no message came within {Seconds(streams.FirstMessageTimeout)} (Streams:FirstMessageTimeout); open the stream first"),
        Late(streams.CallIdleTimeout, "CALL_IDLE", $"no step came within {Seconds(streams.CallIdleTimeout)} (Streams:CallIdleTimeout); the stream stays, open it again"),
        Message(server, "a message that had begun was not complete"));

    /// <summary>For calls that begin while the server stops: probes are still answered.</summary>
    public RequestLimits WhileStopping() => this with { First = Little, Next = Little, Rest = Little };

    private static Patience Message(ServerOptions server, string what) =>
        Late(server.MessageTimeout, "MESSAGE_TIMEOUT", $"{what} within {Seconds(server.MessageTimeout)} (Server:MessageTimeout); send it faster, or smaller");

    private static Patience Late(TimeSpan time, string reason, string message) => new(time, new Failure(FailureKind.DeadlineExceeded, reason, message));

    private static string Seconds(TimeSpan time) => string.Create(CultureInfo.InvariantCulture, $"{time.TotalSeconds:0.###} s");
}
