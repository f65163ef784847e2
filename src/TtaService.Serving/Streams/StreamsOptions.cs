using System.ComponentModel.DataAnnotations;

namespace TtaService.Serving.Streams;

/// <summary>Limits of the streams, section <c>Streams</c>.</summary>
public sealed class StreamsOptions
{
    /// <summary>Streams at a time; opening a further one is refused. Default 10,000.</summary>
    [Range(1, 10_000_000)]
    public int MaxStreams { get; set; } = 10_000;

    /// <summary>Bytes of state of all streams together; opening a stream past it is refused. Default 0: half of the memory that the process may use.</summary>
    [Range(0, long.MaxValue)]
    public long MaxStateBytes { get; set; }

    /// <summary>Steps of one stream that may wait for their reply; a duplex call is not read further, a unary call is refused. Default 16: half a second of a 30 fps
    /// camera.</summary>
    [Range(1, 1024)]
    public int MaxPendingSteps { get; set; } = 16;

    /// <summary>Answers kept per stream for a client that resends. Default 16, as many as may be on their way.</summary>
    [Range(1, 1024)]
    public int KeptReplies { get; set; } = 16;

    /// <summary>Bytes of kept answers per stream; an answer larger than this is not kept. Default 256 KiB.</summary>
    [Range(0, 1 << 30)]
    public long KeptReplyBytes { get; set; } = 256 * 1024;

    /// <summary>Bytes of kept answers of all streams together; past it a stream keeps fewer. Default 0: a sixteenth of the memory that the process may use.</summary>
    [Range(0, long.MaxValue)]
    public long MaxKeptReplyBytes { get; set; }

    /// <summary>A stream without a step for this long leaves the process when no call has it open: to the store, where it waits for its next opening, or for good when the store is
    /// memory. Default one day.</summary>
    [Range(typeof(TimeSpan), "00:00:01", "365.00:00:00")]
    public TimeSpan IdleTimeout { get; set; } = TimeSpan.FromDays(1);

    /// <summary>A duplex call must open its stream within this time. Default 10 s.</summary>
    [Range(typeof(TimeSpan), "00:00:00.010", "01:00:00")]
    public TimeSpan FirstMessageTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>A duplex call without a message for this long ends; the stream stays. Default 10 minutes.</summary>
    [Range(typeof(TimeSpan), "00:00:00.010", "1.00:00:00")]
    public TimeSpan CallIdleTimeout { get; set; } = TimeSpan.FromMinutes(10);

    /// <summary>A duplex call ends after this time, shortened by up to a fifth at random, so that clients open again and a load balancer can spread them anew; the stream stays.
    /// Default 0: never.</summary>
    [Range(typeof(TimeSpan), "00:00:00", "365.00:00:00")]
    public TimeSpan MaxCallAge { get; set; }

    /// <summary>A duplex call whose client does not read a reply within this time ends. Default 30 s.</summary>
    [Range(typeof(TimeSpan), "00:00:00.010", "01:00:00")]
    public TimeSpan ReplyTimeout { get; set; } = TimeSpan.FromSeconds(30);
}
