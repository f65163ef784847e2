using System.ComponentModel.DataAnnotations;

namespace TtaService.Serving.Streams;

/// <summary>How steps of different streams are collected into one forward pass, section <c>Batching</c>. Per model.</summary>
public sealed class BatchingOptions
{
    /// <summary>Frames in a batch; a step that has more runs alone. Default 64.</summary>
    [Range(1, 4096)]
    public int MaxFrames { get; set; } = 64;

    /// <summary>Steps of different streams are joined to a pass of about so long, whatever <see cref="MaxFrames"/> allows; eight frames are always joined.
    /// Default 20 ms: what comes while a pass runs waits for its end.</summary>
    [Range(typeof(TimeSpan), "00:00:00", "00:10:00")]
    public TimeSpan MaxPassTime { get; set; } = TimeSpan.FromMilliseconds(20);

    /// <summary>Frames in a step. Default 64.</summary>
    [Range(1, 4096)]
    public int MaxFramesPerStep { get; set; } = 64;

    /// <summary>Longest wait for steps of other streams that are still being decoded; without such steps there is no wait. Default 2 ms: about the decoding of one camera
    /// image.</summary>
    [Range(typeof(TimeSpan), "00:00:00", "00:00:01")]
    public TimeSpan MaxDelay { get; set; } = TimeSpan.FromMilliseconds(2);

    /// <summary>Steps that wait or run, of all streams; further ones are refused with RESOURCE_EXHAUSTED. The last eighth is for streams of which none waits. Default
    /// 4,096: a thousand cameras may ask at once while the service starts; what their frames take is bounded by <see cref="MaxQueuedBytes"/>.</summary>
    [Range(1, 1_000_000)]
    public int MaxQueuedSteps { get; set; } = 4096;

    /// <summary>Bytes of frames that wait or run, encoded and decoded; further ones are refused with RESOURCE_EXHAUSTED. The last eighth is for streams of which no step waits.
    /// Default 1 GiB.</summary>
    [Range(1, long.MaxValue)]
    public long MaxQueuedBytes { get; set; } = 1L << 30;

    /// <summary>A batcher, or a device's thread, that does not get on for so long with work before it is stuck: the liveness probe fails. Default 2 minutes.</summary>
    [Range(typeof(TimeSpan), "00:00:05", "1.00:00:00")]
    public TimeSpan StuckAfter { get; set; } = TimeSpan.FromMinutes(2);

    /// <summary>Frames decoded at a time, of all models; beside costly ones a cheap one always has a place. Default 0: one a processor.</summary>
    [Range(0, 1024)]
    public int DecodeConcurrency { get; set; }
}
