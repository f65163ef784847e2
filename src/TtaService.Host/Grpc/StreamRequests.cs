using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf.Collections;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Engine;
using TtaService.Engine.Answers;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;
using Method = TtaService.V1.Method;
using Stream = TtaService.V1.Stream;

namespace TtaService.Host.Grpc;

/// <summary>What clients say about streams, checked and put into the host's words.</summary>
internal static class StreamRequests
{
    private const int MaxLabels = 16;
    private const int MaxLabelLength = 128;
    private const int MaxCoalesce = 1024;

    /// <summary>Who calls, as far as the network tells; empty when it does not.</summary>
    public static string ClientOf(ServerCallContext context) => context.GetHttpContext().Connection.RemoteIpAddress?.ToString() ?? string.Empty;

    public static StreamRequest Read(OpenStream open, StreamKey key) => new()
    {
        Key = key,
        Model = open.Model,
        Method = Read(open.Method, "open.method"),
        Seed = open.HasSeed ? open.Seed : null,
        Freeze = open.HasFreeze ? open.Freeze : null,
        MaxCoalesce = open.HasMaxCoalesce ? CheckedCoalesce(open.MaxCoalesce, "open.max_coalesce") : null,
        Mode = open.ResumePolicy switch
        {
            ResumePolicy.Unspecified => ResumeMode.ContinueOrCreate,
            ResumePolicy.MustExist => ResumeMode.MustExist,
            ResumePolicy.MustCreate => ResumeMode.MustCreate,
            ResumePolicy.Reset => ResumeMode.Reset,
            _ => throw new FailureException(Failure.Invalid("RESUME_POLICY_INVALID", "open.resume_policy", $"resume policy {(int)open.ResumePolicy} does not exist")),
        },
    };

    public static StreamRequest Read(Stream stream) => new()
    {
        Key = StreamKey.Checked(stream.Name, "stream.name"),
        Model = stream.Model,
        Method = Read(stream.Method, "stream.method"),
        Seed = stream.Seed,
        Freeze = stream.Frozen,
        MaxCoalesce = stream.MaxCoalesce == 0 ? null : CheckedCoalesce(stream.MaxCoalesce, "stream.max_coalesce"),
        Labels = CheckedLabels(stream.Labels),
        Pinned = stream.Pinned,
        Mode = ResumeMode.MustCreate,
        Root = "stream",
    };

    /// <summary>The change that an update asks for.</summary>
    public static Func<StreamSettings, StreamSettings> ReadUpdate(Stream stream, FieldMask? mask)
    {
        if (mask is null || mask.Paths.Count == 0)
        {
            throw new FailureException(Failure.Invalid("UPDATE_MASK_EMPTY", "update_mask", "the update mask names no field; it may name frozen, max_coalesce, labels, pinned"));
        }

        var (frozen, labels, pinned, coalesce) = (default(bool?), default(Dictionary<string, string>), default(bool?), default(int?));
        foreach (var path in mask.Paths)
        {
            switch (path)
            {
                case "frozen":
                    frozen = stream.Frozen;
                    break;
                case "max_coalesce":
                    coalesce = stream.MaxCoalesce == 0 ? 1 : CheckedCoalesce(stream.MaxCoalesce, "stream.max_coalesce");
                    break;
                case "labels":
                    labels ??= CheckedLabels(stream.Labels);
                    break;
                case "pinned":
                    pinned = stream.Pinned;
                    break;
                default:
                    throw new FailureException(Failure.Invalid(
                        "UPDATE_MASK_INVALID",
                        "update_mask",
                        $"'{ForeignText.Clip(path)}' can't be updated; frozen, max_coalesce, labels and pinned can. "
                            + "A method or seed changes by opening the stream with RESUME_POLICY_RESET, a model by deleting the stream"));
            }
        }

        return settings => settings with
        {
            Frozen = frozen ?? settings.Frozen,
            MaxCoalesce = coalesce ?? settings.MaxCoalesce,
            Labels = labels ?? settings.Labels,
            Pinned = pinned ?? settings.Pinned,
        };
    }

    public static ReplyContent Read(ReplyOptions? options)
    {
        var topK = options is { HasTopK: true } ? options.TopK : ReplyContent.DefaultTopK;
        if (topK is < 0 or > ReplyContent.MaximumTopK)
        {
            throw new FailureException(Failure.Invalid("TOP_K_OUT_OF_RANGE", "open.reply.top_k", $"top_k is 0 to {ReplyContent.MaximumTopK}, not {topK}"));
        }

        var boxes = options is { HasMaxBoxes: true } ? options.MaxBoxes : (int?)null;
        if (boxes is < 1 or > DetectionSettings.MostBoxes)
        {
            throw new FailureException(Failure.Invalid("MAX_BOXES_OUT_OF_RANGE", "open.reply.max_boxes", $"max_boxes is 1 to {DetectionSettings.MostBoxes}, not {boxes}"));
        }

        return new ReplyContent(topK, options?.RawOutputs ?? false)
        {
            ScoreThreshold = options is { HasScoreThreshold: true } ? CheckedShare(options.ScoreThreshold, "score_threshold") : null,
            IouThreshold = options is { HasIouThreshold: true } ? CheckedShare(options.IouThreshold, "iou_threshold") : null,
            MaxBoxes = boxes,
            Unfiltered = options?.Unfiltered ?? false,
            Mask = options?.MaskEncoding switch
            {
                null or MaskEncoding.Unspecified or MaskEncoding.Png => MaskForm.Png,
                MaskEncoding.RunLengths => MaskForm.RunLengths,
                MaskEncoding.None => MaskForm.None,
                var unknown => throw new FailureException(Failure.Invalid(
                    "MASK_ENCODING_INVALID", "open.reply.mask_encoding", $"mask encoding {(int)unknown} does not exist; use PNG, RUN_LENGTHS or NONE")),
            },
        };
    }

    private static float CheckedShare(float value, string field) => value is >= 0 and <= 1 ? value : throw new FailureException(Failure.Invalid(
        $"{field.ToUpperInvariant()}_OUT_OF_RANGE", $"open.reply.{field}", string.Create(CultureInfo.InvariantCulture, $"{field} is 0 to 1, not {value}")));

    /// <summary>A step; its frames' bytes stay the message's.</summary>
    public static SentStep Read(StepRequest step, ReplyContent content, CancellationToken cancel)
    {
        var frames = new SentFrame[step.Frames.Count];
        for (var i = 0; i < frames.Length; i++)
        {
            frames[i] = Read(step.Frames[i]);
        }

        return new SentStep
        {
            Sequence = step.Sequence,
            Frames = frames,
            Freeze = step.HasFreeze ? step.Freeze : null,
            // ToTimeSpan throws on values that are not normalized.
            Timeout = step.Timeout is { } timeout ? timeout.Seconds + (timeout.Nanos / 1e9) : null,
            Content = content,
            Cancel = cancel,
        };
    }

    private static SentFrame Read(Frame frame) => frame.ContentCase switch
    {
        Frame.ContentOneofCase.Encoded => SentFrame.Encoded(frame.Encoded.Memory),
        Frame.ContentOneofCase.Raw => SentFrame.Raw(frame.Raw.Data.Memory, (PixelFormat)frame.Raw.Format, frame.Raw.Width, frame.Raw.Height, frame.Raw.Stride),
        Frame.ContentOneofCase.Tensor => SentFrame.Tensor(frame.Tensor.Data.Memory, frame.Tensor.Shape),
        _ => default,
    };

    private static MethodChoice? Read(Method? method, string field) => method is null
        ? null
        : new MethodChoice(method.Name, method.Hyperparameters is { } values ? ReadHyperparameters(values, field) : null);

    private static JsonObject ReadHyperparameters(Struct values, string field)
    {
        var json = new JsonObject();
        foreach (var (name, value) in values.Fields)
        {
            json[name] = value.KindCase switch
            {
                Value.KindOneofCase.NumberValue when double.IsFinite(value.NumberValue) => Number(value.NumberValue),
                Value.KindOneofCase.StringValue => JsonValue.Create(value.StringValue),
                Value.KindOneofCase.BoolValue => JsonValue.Create(value.BoolValue),
                _ => throw new FailureException(Failure.Invalid(
                    "METHOD_INVALID",
                    field,
                    $"hyperparameter '{ForeignText.Clip(name)}' must be a finite number, a string or a boolean")),
            };
        }

        return json;
    }

    // The wire knows only doubles; a whole number must pass where an integer is asked for.
    private static JsonValue Number(double value) => Math.Floor(value) == value && Math.Abs(value) < 1L << 53 ? JsonValue.Create((long)value) : JsonValue.Create(value);

    private static int CheckedCoalesce(int value, string field) => value is >= 1 and <= MaxCoalesce
        ? value
        : throw new FailureException(Failure.Invalid("MAX_COALESCE_OUT_OF_RANGE", field, $"max_coalesce is 1 to {MaxCoalesce}, not {value}"));

    private static Dictionary<string, string> CheckedLabels(MapField<string, string> labels)
    {
        if (labels.Count > MaxLabels)
        {
            throw new FailureException(Failure.Invalid("TOO_MANY_LABELS", "stream.labels", $"a stream has at most {MaxLabels} labels, not {labels.Count}"));
        }

        foreach (var (name, value) in labels)
        {
            if (name.Length is 0 or > MaxLabelLength || value.Length > MaxLabelLength)
            {
                throw new FailureException(Failure.Invalid(
                    "LABEL_INVALID",
                    "stream.labels",
                    $"a label's name has 1 to {MaxLabelLength} characters and its value at most {MaxLabelLength}; "
                        + $"label '{ForeignText.Clip(name)}' has {name.Length} and {value.Length}"));
            }
        }

        return labels.ToDictionary(StringComparer.Ordinal);
    }
}
