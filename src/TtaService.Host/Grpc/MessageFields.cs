using System.Buffers;
using System.Collections.Concurrent;
using System.Reflection;
using System.Text.Unicode;
using Google.Protobuf;
using Google.Protobuf.Reflection;
using TtaService.Serving.Streams;

namespace TtaService.Host.Grpc;

/// <summary>How much the fields of a message type may hold. Checked on the wire, since parsing makes objects of every field that a client sends: 16 MiB of empty frames come to hundreds.</summary>
internal sealed class MessageFields
{
    /// <summary>Bytes of a string, and of bytes that are no frame or snapshot. What is longer than its own rule allows but not than this is refused by that rule.</summary>
    public const int MaxText = 1024;

    /// <summary>Entries of a repeated field or a map.</summary>
    public const int MaxEntries = 128;

    /// <summary>Messages within messages.</summary>
    public const int MaxDepth = 16;

    /// <summary>Fields of a message and all messages in it, elements of repeated fields included: 4,096 frames with all that raw images have.</summary>
    public const int MaxFields = 65_536;

    private const int MaxNumbers = 256 * 1024;
    private const int MaxUnknown = 64;
    private const int MaxVarint = 10;

    // Those that differ from the above. Content is bounded by the message, and by what Frames says.
    private static readonly Dictionary<string, int> Differing = new(StringComparer.Ordinal)
    {
        ["tta.v1.StepRequest.frames"] = 4096,
        ["tta.v1.FloatTensor.shape"] = 16,
        // Whatever a client keeps for one is refused as what it is.
        ["tta.v1.ListStreamsRequest.page_token"] = 128 * 1024,
        ["tta.v1.Frame.encoded"] = int.MaxValue,
        ["tta.v1.RawImage.data"] = int.MaxValue,
        ["tta.v1.FloatTensor.data"] = int.MaxValue,
        ["tta.v1.ImportStreamRequest.snapshot"] = int.MaxValue,
        // As the frames of a step.
        ["inference.ModelInferRequest.raw_input_contents"] = MaxEntries,
        ["inference.InferTensorContents.bytes_contents"] = 4096,
        // Such numbers take up to eight bytes for each byte on the wire; floating ones as many as they took there.
        ["inference.InferTensorContents.bool_contents"] = MaxNumbers,
        ["inference.InferTensorContents.int_contents"] = MaxNumbers,
        ["inference.InferTensorContents.int64_contents"] = MaxNumbers,
        ["inference.InferTensorContents.uint_contents"] = MaxNumbers,
        ["inference.InferTensorContents.uint64_contents"] = MaxNumbers,
        ["inference.InferTensorContents.fp32_contents"] = int.MaxValue,
        ["inference.InferTensorContents.fp64_contents"] = int.MaxValue,
    };

    // Repeated fields whose elements are bounded by the message alone.
    private static readonly HashSet<string> Content = ["inference.ModelInferRequest.raw_input_contents", "inference.InferTensorContents.bytes_contents"];

    private static readonly ConcurrentDictionary<string, MessageFields> Known = new(StringComparer.Ordinal);

    private readonly string _name;
    private readonly Dictionary<int, Field> _fields;

    private MessageFields(MessageDescriptor message)
    {
        _name = message.Name;
        _fields = message.Fields.InDeclarationOrder().Select((field, place) => new Field(field, place)).ToDictionary(field => field.Number);
    }

    /// <summary>Of a type of messages.</summary>
    public static MessageFields Of(MessageDescriptor message) => Known.GetOrAdd(message.FullName, static (_, message) => new MessageFields(message), message);

    /// <summary>Of a generated type of messages; null of another.</summary>
    public static MessageFields? Of(Type message) =>
        message.GetProperty("Descriptor", BindingFlags.Public | BindingFlags.Static)?.GetValue(null) is MessageDescriptor descriptor ? Of(descriptor) : null;

    /// <summary>The most bytes of a string or bytes field, elements of a repeated field, or entries of a map.</summary>
    public static int LimitOf(FieldDescriptor field) => Differing.TryGetValue(field.FullName, out var limit) ? limit : field.IsRepeated ? MaxEntries : MaxText;

    /// <summary>What a message is that can't be read.</summary>
    public static Failure Unreadable(string why) => Failure.Invalid("MESSAGE_UNREADABLE", "message", $"a message of the call is not what its .proto file says: {why}");

    /// <summary>Why the message may not be parsed; null when it may.</summary>
    public Failure? WhyRefused(in ReadOnlySequence<byte> message)
    {
        var reader = new SequenceReader<byte>(message);
        var walk = new Walk();
        try
        {
            Check(ref reader, message.Length, ref walk, string.Empty, 0);
            return null;
        }
        catch (FailureException refused)
        {
            return refused.Failure;
        }
    }

    // Depth is bounded, so the recursion is.
    private void Check(ref SequenceReader<byte> reader, long end, ref Walk walk, string path, int depth)
    {
        if (depth > MaxDepth)
        {
            throw new FailureException(Failure.Invalid("MESSAGE_TOO_DEEP", path, $"messages lie within each other more than {MaxDepth} deep at {path}"));
        }

        Span<int> counts = stackalloc int[_fields.Count];
        counts.Clear();
        while (reader.Consumed < end)
        {
            var tag = Varint(ref reader, end);
            var (number, wire) = ((int)(tag >> 3), (WireFormat.WireType)(tag & 7));
            if (tag > uint.MaxValue || number == 0)
            {
                throw Broken(path, "a tag of it is none");
            }

            walk.Add(1, path);
            if (!_fields.TryGetValue(number, out var field))
            {
                Skip(ref reader, end, wire, path);
                if (++walk.Unknown > MaxUnknown)
                {
                    throw new FailureException(Failure.Invalid("TOO_MANY_FIELDS", path.Length == 0 ? "message" : path, $"the message has more than {MaxUnknown} fields that {_name} does not have"));
                }

                continue;
            }

            if (wire == WireFormat.WireType.LengthDelimited)
            {
                var length = Length(ref reader, end, path);
                CheckContent(ref reader, field, length, ref walk, ref counts[field.Place], path, depth);
            }
            else
            {
                Skip(ref reader, end, wire, path);
                field.Count(ref counts[field.Place], 1, path);
            }
        }
    }

    private static void CheckContent(ref SequenceReader<byte> reader, Field field, int length, ref Walk walk, ref int count, string path, int depth)
    {
        var end = reader.Consumed + length;
        if (field.Message is { } message)
        {
            field.Count(ref count, 1, path);
            message().Check(ref reader, end, ref walk, field.Below(path), depth + 1);
        }
        else if (field.IsText)
        {
            field.Count(ref count, 1, path);
            field.CheckText(reader.UnreadSequence.Slice(0, length), path);
            reader.Advance(length);
        }
        else
        {
            // Packed numbers: as many as there are, whatever they take.
            var elements = Elements(reader.UnreadSequence.Slice(0, length), field.ElementBytes, path);
            field.Count(ref count, elements, path);
            walk.Add(field.IsFree ? 0 : elements, field.IsNumbers, path);

            reader.Advance(length);
        }
    }

    // Each byte without the continuation bit ends a varint.
    private static int Elements(in ReadOnlySequence<byte> packed, int elementBytes, string path)
    {
        if (elementBytes > 0)
        {
            return packed.Length % elementBytes == 0 ? (int)(packed.Length / elementBytes) : throw Broken(path, "packed numbers are cut short");
        }

        var (elements, open) = (0, 0);
        foreach (var part in packed)
        {
            foreach (var value in part.Span)
            {
                open = value < 0x80 ? 0 : open + 1;
                elements += open == 0 ? 1 : 0;
                if (open == MaxVarint)
                {
                    throw Broken(path, "a number of it does not end");
                }
            }
        }

        return open == 0 ? elements : throw Broken(path, "packed numbers are cut short");
    }

    private static void Skip(ref SequenceReader<byte> reader, long end, WireFormat.WireType wire, string path)
    {
        long bytes = 0;
        switch (wire)
        {
            case WireFormat.WireType.Varint:
                Varint(ref reader, end);
                return;
            case WireFormat.WireType.Fixed64:
                bytes = 8;
                break;
            case WireFormat.WireType.Fixed32:
                bytes = 4;
                break;
            case WireFormat.WireType.LengthDelimited:
                bytes = Length(ref reader, end, path);
                break;
            default:
                throw Broken(path, "it has groups, which proto3 does not have");
        }

        if (bytes > end - reader.Consumed)
        {
            throw Broken(path, "a field reaches over its end");
        }

        reader.Advance(bytes);
    }

    private static int Length(ref SequenceReader<byte> reader, long end, string path)
    {
        var length = Varint(ref reader, end);
        return length <= (ulong)(end - reader.Consumed) ? (int)length : throw Broken(path, "a field reaches over its end");
    }

    private static ulong Varint(ref SequenceReader<byte> reader, long end)
    {
        var value = 0ul;
        for (var shift = 0; shift < 64; shift += 7)
        {
            if (reader.Consumed >= end || !reader.TryRead(out var next))
            {
                break;
            }

            value |= (ulong)(next & 0x7F) << shift;
            if (next < 0x80)
            {
                return value;
            }
        }

        throw Broken(string.Empty, "a number of it does not end");
    }

    private static FailureException Broken(string path, string why) => new(Unreadable(path.Length == 0 ? why : $"{why} (in {path})"));

    private ref struct Walk
    {
        private int _fields;
        private int _numbers;

        public int Unknown;

        public void Add(int fields, bool areNumbers, string path)
        {
            if (areNumbers)
            {
                AddNumbers(fields, path);
            }
            else
            {
                Add(fields, path);
            }
        }

        public void Add(int fields, string path)
        {
            if (fields > MaxFields - _fields)
            {
                throw new FailureException(Failure.Invalid("TOO_MANY_FIELDS", path.Length == 0 ? "message" : path, $"the message has more than {MaxFields} fields and elements in all"));
            }

            _fields += fields;
        }

        private void AddNumbers(int numbers, string path)
        {
            if (numbers > MaxNumbers - _numbers)
            {
                throw new FailureException(Failure.Invalid("TOO_MANY_ENTRIES", path, $"the message has more than {MaxNumbers} numbers in typed contents, which is the limit; send raw_input_contents"));
            }

            _numbers += numbers;
        }
    }

    private sealed class Field
    {
        private readonly string _name;
        private readonly bool _isRepeated;
        private readonly bool _isString;
        private readonly int _limit;
        private readonly int _maxText;

        public Field(FieldDescriptor field, int place)
        {
            IsNumbers = field.IsRepeated && LimitOf(field) == MaxNumbers;
            IsFree = field.IsRepeated && LimitOf(field) == int.MaxValue;
            _maxText = Content.Contains(field.FullName) ? int.MaxValue : field.IsRepeated ? MaxText : LimitOf(field);
            (Number, Place, _name, _isRepeated, _limit) = (field.FieldNumber, place, field.Name, field.IsRepeated, LimitOf(field));
            _isString = field.FieldType == FieldType.String;
            IsText = field.FieldType is FieldType.String or FieldType.Bytes;
            ElementBytes = field.FieldType switch
            {
                FieldType.Fixed64 or FieldType.SFixed64 or FieldType.Double => 8,
                FieldType.Fixed32 or FieldType.SFixed32 or FieldType.Float => 4,
                _ => 0,
            };
            if (field.FieldType is FieldType.Message or FieldType.Group)
            {
                // Not at once: a type may hold itself.
                var type = field.MessageType;
                Message = () => Of(type);
            }
        }

        public int Number { get; }

        /// <summary>Among the fields of its message.</summary>
        public int Place { get; }

        public bool IsText { get; }

        /// <summary>A tensor's whole numbers, which have a limit of their own.</summary>
        public bool IsNumbers { get; }

        /// <summary>A tensor's floating numbers, which the message bounds.</summary>
        public bool IsFree { get; }

        /// <summary>Of a packed number; 0 when that differs.</summary>
        public int ElementBytes { get; }

        public Func<MessageFields>? Message { get; }

        public string Below(string path) => path.Length == 0 ? _name : $"{path}.{_name}";

        public void Count(ref int count, int more, string path)
        {
            if (_isRepeated && more > _limit - count)
            {
                throw new FailureException(Failure.Invalid("TOO_MANY_ENTRIES", Below(path), $"{Below(path)} has more than {_limit} entries, which is the limit"));
            }

            count += more;
        }

        public void CheckText(in ReadOnlySequence<byte> text, string path)
        {
            if (text.Length > _maxText)
            {
                throw new FailureException(Failure.Invalid("FIELD_TOO_LONG", Below(path), $"{Below(path)} has {text.Length} bytes, the limit is {_maxText}"));
            }

            if (_isString)
            {
                Span<byte> small = stackalloc byte[MaxText];
                var bytes = text.Length <= MaxText ? small[..(int)text.Length] : new byte[text.Length];
                text.CopyTo(bytes);
                if (!Utf8.IsValid(bytes))
                {
                    throw Broken(Below(path), "a text is not UTF-8");
                }
            }
        }
    }
}
