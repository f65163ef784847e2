using System.Globalization;
using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The parameters of a request: those that the protocol reserves, and this server's own, which begin with <c>tta_</c>. Others are the client's and mean nothing
/// here.</summary>
internal sealed class RequestParameters
{
    private const string Own = "tta_";

    private static readonly TimeSpan MaxTimeout = TimeSpan.FromDays(1);

    private static readonly string[] Known = ["tta_method", "tta_freeze", "tta_reset", "tta_resume", "tta_keep", "tta_unfiltered"];

    private readonly IReadOnlyDictionary<string, object> _values;

    /// <param name="values">Bool, long, ulong, double or string.</param>
    /// <exception cref="FailureException">One is of a wrong kind or unknown.</exception>
    public RequestParameters(IReadOnlyDictionary<string, object> values)
    {
        _values = values;
        if (values.Keys.FirstOrDefault(name => name.StartsWith(Own, StringComparison.Ordinal) && !Known.Contains(name)) is { } unknown)
        {
            throw new FailureException(Failure.Invalid(
                "PARAMETER_UNKNOWN",
                ForeignText.Clip(unknown),
                $"parameter '{ForeignText.Clip(unknown)}' does not exist; there is {string.Join(", ", Known)}"));
        }

        Sequence = ReadSequence();
        Start = Bool("sequence_start");
        End = Bool("sequence_end");
        EmptyFinalResponse = Bool("triton_enable_empty_final_response");
        BinaryOutput = Bool("binary_data_output");
        // There are no levels of priority; a number is taken, so that clients need not change.
        Whole("priority");
        Timeout = ReadTimeout();
        Method = Text("tta_method");
        Freeze = values.ContainsKey("tta_freeze") ? Bool("tta_freeze") : null;
        Reset = Bool("tta_reset");
        Resume = Bool("tta_resume");
        Keep = Bool("tta_keep");
        Unfiltered = Bool("tta_unfiltered");
    }

    /// <summary>The sequence, a number as its digits; null for none.</summary>
    public string? Sequence { get; }

    /// <summary>The sequence's id is a number.</summary>
    public bool IsNumbered => Sequence is not null && _values["sequence_id"] is not string;

    public bool Start { get; }

    public bool End { get; }

    /// <summary>Null for none.</summary>
    public TimeSpan? Timeout { get; }

    /// <summary>A last response without outputs, for decoupled models.</summary>
    public bool EmptyFinalResponse { get; }

    /// <summary>REST: outputs come behind the JSON unless they say otherwise.</summary>
    public bool BinaryOutput { get; }

    /// <summary>A method as <c>ema{momentum=0.1}</c>; null for the model's.</summary>
    public string? Method { get; }

    /// <summary>Use the state, do not update it; null for as it is.</summary>
    public bool? Freeze { get; }

    /// <summary>Put the state back to the source statistics first.</summary>
    public bool Reset { get; }

    /// <summary>A start continues a stream that exists, as a camera that reconnects wants.</summary>
    public bool Resume { get; }

    /// <summary>An end leaves the stream in place.</summary>
    public bool Keep { get; }

    /// <summary>Answer the class scores before the method's prediction filter, too.</summary>
    public bool Unfiltered { get; }

    private static FailureException Wrong(string name, string wanted, object value) =>
        new(Failure.Invalid("PARAMETER_INVALID", name, $"parameter '{name}' must be {wanted}, not {Kind(value)}"));

    private static string Kind(object value) => value switch
    {
        bool => "a bool",
        string text => $"the string '{ForeignText.Clip(text)}'",
        _ => string.Create(CultureInfo.InvariantCulture, $"{value}"),
    };

    private bool Bool(string name) => _values.TryGetValue(name, out var value) && (value is bool set ? set : throw Wrong(name, "a bool", value));

    private string? Text(string name) => !_values.TryGetValue(name, out var value) ? null : value as string ?? throw Wrong(name, "a string", value);

    private ulong Whole(string name) => !_values.TryGetValue(name, out var value)
        ? 0
        : value switch
        {
            ulong number => number,
            long and >= 0 => (ulong)(long)value,
            _ => throw Wrong(name, "an integer from 0", value),
        };

    // 0 and the empty text stand for none.
    private string? ReadSequence()
    {
        if (!_values.TryGetValue("sequence_id", out var value))
        {
            return null;
        }

        return value switch
        {
            string { Length: 0 } or 0L or 0ul => null,
            string text => text,
            long or ulong => string.Create(CultureInfo.InvariantCulture, $"{value}"),
            _ => throw Wrong("sequence_id", "an integer or a string", value),
        };
    }

    private TimeSpan? ReadTimeout()
    {
        var microseconds = Whole("timeout");
        return microseconds == 0
            ? null
            : microseconds <= MaxTimeout.TotalMicroseconds
                ? TimeSpan.FromMicroseconds(microseconds)
                : throw new FailureException(Failure.Invalid(
                    "PARAMETER_INVALID",
                    "timeout",
                    $"parameter 'timeout' is in microseconds and at most {MaxTimeout.TotalMicroseconds:0}, not {microseconds}"));
    }
}
