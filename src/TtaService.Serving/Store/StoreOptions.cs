using System.ComponentModel;
using System.ComponentModel.DataAnnotations;

namespace TtaService.Serving.Store;

/// <summary>Where states are stored. In configuration <c>memory</c>, <c>file</c>, <c>redis</c>.</summary>
[TypeConverter(typeof(SnakeCaseEnumConverter<StoreKind>))]
internal enum StoreKind
{
    /// <summary>In this process: lost when it ends.</summary>
    Memory,

    /// <summary>In a folder that one process uses.</summary>
    File,

    /// <summary>In Redis or a compatible server, for several replicas.</summary>
    Redis,
}

/// <summary>How states are encoded. In configuration <c>lossless</c>, <c>float16_delta</c>.</summary>
[TypeConverter(typeof(SnakeCaseEnumConverter<SnapshotEncoding>))]
internal enum SnapshotEncoding
{
    /// <summary>Float32, not compressed: any reader of safetensors opens it.</summary>
    Lossless,

    /// <summary>Differences from the source statistics as float16, compressed: half the bytes or less, off by at most 2^-11 of the difference.</summary>
    Float16Delta,
}

/// <summary>How stream states are kept, section <c>Store</c>.</summary>
internal sealed class StoreOptions
{
    /// <summary>Where. Default file.</summary>
    public StoreKind Kind { get; set; } = StoreKind.File;

    /// <summary>The folder of the file store; made when it is missing. Default <c>data/streams</c> below the working directory.</summary>
    [Required]
    public string Path { get; set; } = "data/streams";

    /// <summary>This replica, as other replicas and clients can reach it. Default: the machine's name.</summary>
    [Required]
    public string Replica { get; set; } = Environment.MachineName;

    /// <summary>Most bytes of checkpoints in the memory and file stores; the longest idle streams expire first. Default 8 GiB. Redis has its own limit, maxmemory.</summary>
    [Range(1, long.MaxValue)]
    public long MaxBytes { get; set; } = 8L << 30;

    /// <summary>Most streams with checkpoints in the memory and file stores; the longest idle expire first. Default 100,000.</summary>
    [Range(1, 100_000_000)]
    public int MaxStreams { get; set; } = 100_000;

    /// <summary>A stream that nobody opened or wrote for this long is forgotten. Default 30 days.</summary>
    [Range(typeof(TimeSpan), "00:00:01", "3650.00:00:00")]
    public TimeSpan IdleExpiry { get; set; } = TimeSpan.FromDays(30);

    /// <summary>Checkpoints kept of a stream, the newest included, to roll back to. Default 3.</summary>
    [Range(1, 1000)]
    public int KeepCheckpoints { get; set; } = 3;

    /// <summary>How states are encoded. Default lossless.</summary>
    public SnapshotEncoding Encoding { get; set; } = SnapshotEncoding.Lossless;

    /// <summary>A file whose bytes, 32 at least, key the checkpoints' checksums: then who can write the store but lacks the file can't forge a state. Default none: checksums only
    /// find damage.</summary>
    public string? SigningKeyFile { get; set; }

    /// <summary>Where Redis is, in the notation of StackExchange.Redis (<c>host:6379,password=…,ssl=true</c>).</summary>
    public string? RedisConfiguration { get; set; }

    /// <summary>First part of every key in Redis. Default <c>tta:</c>.</summary>
    [Required]
    public string RedisKeyPrefix { get; set; } = "tta:";

    /// <summary>Longest wait for an answer of Redis. Default 2 s: a 4 MB state takes about 10 ms.</summary>
    [Range(typeof(TimeSpan), "00:00:00.050", "00:01:00")]
    public TimeSpan RedisTimeout { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>Whether a stream may only be opened when the store gave a claim to it. Default false: while the store is down, streams start fresh, and two replicas may run the
    /// same one.</summary>
    public bool RequireFencing { get; set; }

    /// <summary>What happens when a stream is opened that another replica owns. Default replace: the last opener wins.</summary>
    public OpenPolicy DuplicateStream { get; set; } = OpenPolicy.Replace;

    /// <summary>Whether a unary request takes over a stream that another replica owns. Default false: it is refused with the owner's address, because a load balancer that spreads
    /// unary requests would move the stream with each.</summary>
    public bool UnaryTakesOver { get; set; }

    /// <summary>How often the claims are confirmed; a replica that was paused or cut off learns within this time that another has its streams. Default 2 s.</summary>
    [Range(typeof(TimeSpan), "00:00:00.050", "00:10:00")]
    public TimeSpan RenewInterval { get; set; } = TimeSpan.FromSeconds(2);

    /// <summary>With reject: an owner that gave no sign of life for this long has lost its streams. Default 30 s.</summary>
    [Range(typeof(TimeSpan), "00:00:01", "01:00:00")]
    public TimeSpan OwnerTimeout { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>Take-overs of one stream within a minute; past it openings are refused until the minute is over, because two clients use one key. Default 30.</summary>
    [Range(1, 100_000)]
    public int MaxTakeoversPerMinute { get; set; } = 30;

    /// <summary>A state that changed is stored at the latest after this time, while the store keeps up. Default 30 s: that much adaptation is lost when the process is
    /// killed.</summary>
    [Range(typeof(TimeSpan), "00:00:00.100", "1.00:00:00")]
    public TimeSpan CheckpointInterval { get; set; } = TimeSpan.FromSeconds(30);

    /// <summary>A state whose drift score moved by so much since its last checkpoint is stored at once: what the stream learned there is worth most. Default 0.5; 0 for
    /// never.</summary>
    [Range(0.0, 1e6)]
    public double DriftThreshold { get; set; } = 0.5;

    /// <summary>Bytes of checkpoints written per second on the average, oldest change first. Default 64 MiB: a tenth of what one Redis takes. Closing and stopping do not wait for
    /// it.</summary>
    [Range(1024, long.MaxValue)]
    public long BytesPerSecond { get; set; } = 64L << 20;

    /// <summary>Wait before a store that failed is tried again; meanwhile nothing waits for it. Default 1 s.</summary>
    [Range(typeof(TimeSpan), "00:00:00.010", "00:10:00")]
    public TimeSpan RetryDelay { get; set; } = TimeSpan.FromSeconds(1);

    /// <summary>Longest time that a graceful stop spends on saving streams. Default 10 s.</summary>
    [Range(typeof(TimeSpan), "00:00:00.100", "00:10:00")]
    public TimeSpan StopTimeout { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Checkpoints written at a time. Default 4.</summary>
    [Range(1, 64)]
    public int Writers { get; set; } = 4;
}
