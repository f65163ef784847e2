using System.Text.Json;

namespace TtaService.Serving.Telemetry;

/// <summary>A part of a step's time.</summary>
internal enum StepPhase
{
    Decode,
    Queue,
    Transfer,
    Forward,
    Commit,
    Postprocess,
}

/// <summary>How a stream came, went or moved.</summary>
internal enum StreamTransition
{
    /// <summary>It began from the source statistics.</summary>
    Opened,

    /// <summary>It began while the store could not be asked what it knows.</summary>
    OpenedBlind,

    /// <summary>Its state came from the store or a snapshot, or back into the arena.</summary>
    Restored,

    /// <summary>Its state left the arena.</summary>
    Evicted,

    /// <summary>It left the process.</summary>
    Closed,

    /// <summary>It was opened here, and another replica had not given it up.</summary>
    TakenOver,

    /// <summary>A call opened it here while another call had it open.</summary>
    CallTakenOver,

    /// <summary>It was given up because another replica opened it, or it was deleted there.</summary>
    Fenced,
}

/// <summary>Why a stream went back to the source statistics.</summary>
internal enum ResetCause
{
    /// <summary>A client asked.</summary>
    Request,

    /// <summary>The service found its adaptation harmful.</summary>
    Guard,

    /// <summary>Its method resets it at times.</summary>
    Schedule,

    /// <summary>The stored state could not be used.</summary>
    Corrupt,
}

/// <summary>Why a step changed no state.</summary>
internal enum SkipCause
{
    EntropyGate,
    NotFinite,
    Budget,
    Frozen,
}

/// <summary>Names of an enum's values as labels.</summary>
internal static class Label<T>
    where T : struct, Enum
{
    private static readonly Dictionary<T, string> Names = Enum.GetValues<T>().ToDictionary(value => value, value => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString()));

    public static IReadOnlyCollection<string> All => Names.Values;

    public static string Of(T value) => Names[value];
}

/// <summary>Reasons for which frames are refused, as labels.</summary>
internal static class RejectReasons
{
    public const string Other = "other";

    private static readonly Dictionary<string, string> Names = new[]
    {
        "FRAME_TOO_LARGE", "FRAME_TOO_SMALL", "FRAME_UNREADABLE", "FRAME_FORMAT_UNKNOWN", "FRAME_SHAPE_WRONG", "FRAME_COUNT_OUT_OF_RANGE", "FRAME_KINDS_MIXED", "FRAME_EMPTY",
        "RAW_SIZE_WRONG", "RAW_FORMAT_UNKNOWN", "TENSOR_SIZE_WRONG", "TENSOR_SHAPES_DIFFER", "TENSOR_NOT_FINITE",
    }.ToDictionary(reason => reason, reason => reason.ToLowerInvariant(), StringComparer.Ordinal);

    /// <summary>A failure's reason as a label; what is not on the list is "other", whatever it says.</summary>
    public static string Of(string reason) => Names.GetValueOrDefault(reason, Other);
}
