using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace TtaService.Engine.Streams;

/// <summary>The safetensors container with float32 or byte tensors: 8-byte little-endian header length, JSON header, raw little-endian data.</summary>
internal sealed class Safetensors
{
    /// <summary>Longest header that is read.</summary>
    public const int MaxHeaderBytes = 16 << 20;

    // Several times what the largest models have; without a bound a header of empty entries takes seconds, and ten times its size.
    private const int MaxTensors = 16_384;
    private const int MaxTokens = 32 * MaxTensors;
    private const int MaxMetadata = 256;
    private const int MaxAxes = 16;

    private const string Float32 = "F32";
    private const string UInt8 = "U8";

    private readonly Dictionary<string, (string Type, int[] Shape, int Start, int End)> _tensors;

    private Safetensors(Dictionary<string, (string, int[], int, int)> tensors, Dictionary<string, string> metadata)
    {
        _tensors = tensors;
        Metadata = metadata;
    }

    /// <summary>The strings of <c>__metadata__</c>.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Names of the tensors, in the header's order.</summary>
    public IEnumerable<string> Names => _tensors.Keys;

    /// <summary>A tensor's extents.</summary>
    public int[] Shape(string name) => _tensors[name].Shape;

    /// <summary>Whether the container holds the tensor.</summary>
    public bool Contains(string name) => _tensors.ContainsKey(name);

    /// <summary>Checks the container and reads its table.</summary>
    /// <exception cref="SnapshotException">Cut short, or not safetensors; the message says where.</exception>
    public static Safetensors Read(ReadOnlySpan<byte> file)
    {
        if (file.Length < 8)
        {
            throw new SnapshotException($"the file has {file.Length} bytes, too few for safetensors");
        }

        var headerLength = BinaryPrimitives.ReadUInt64LittleEndian(file);
        if (headerLength > MaxHeaderBytes || headerLength > (ulong)file.Length - 8)
        {
            throw new SnapshotException($"the header should have {headerLength} bytes, the file has {file.Length - 8} after its length (limit {MaxHeaderBytes}): it is cut "
                + "short or not safetensors");
        }

        var dataLength = file.Length - 8 - (int)headerLength;
        try
        {
            CheckTokens(file.Slice(8, (int)headerLength));
            var reader = new Utf8JsonReader(file.Slice(8, (int)headerLength));
            using var header = JsonDocument.ParseValue(ref reader);
            if (reader.Read())
            {
                throw new SnapshotException("the header is not one JSON object");
            }

            return Parse(header.RootElement, dataLength);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or FormatException or OverflowException or KeyNotFoundException)
        {
            throw new SnapshotException("the header is not valid safetensors JSON");
        }
    }

    /// <summary>A tensor's bytes, little-endian, within the file.</summary>
    public ReadOnlySpan<byte> Bytes(ReadOnlySpan<byte> file, string name)
    {
        var (_, _, start, end) = _tensors[name];
        return file[(8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(file))..][start..end];
    }

    /// <summary>Copies a tensor's values.</summary>
    /// <exception cref="SnapshotException">The tensor is not float32.</exception>
    public void CopyTo(ReadOnlySpan<byte> file, string name, Span<float> destination)
    {
        if (_tensors[name].Type != Float32)
        {
            throw new SnapshotException($"tensor '{ForeignText.Clip(name)}' is {_tensors[name].Type}, expected {Float32}");
        }

        var data = Bytes(file, name);
        for (var i = 0; i < destination.Length; i++)
        {
            destination[i] = BinaryPrimitives.ReadSingleLittleEndian(data[(4 * i)..]);
        }
    }

    /// <summary>The same tensors under other metadata.</summary>
    /// <exception cref="SnapshotException">Not safetensors; the message says where.</exception>
    public static byte[] WithMetadata(ReadOnlySpan<byte> file, IReadOnlyDictionary<string, string> metadata)
    {
        var content = Read(file);
        var entries = content._tensors.Select(tensor => (tensor.Key, tensor.Value.Type, tensor.Value.Shape, tensor.Value.End - tensor.Value.Start));
        var data = file[(8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(file))..];
        var written = Begin(metadata, [.. entries], data.Length, out var position);
        data.CopyTo(written.AsSpan(position));
        return written;
    }

    /// <summary>Writes a container with one tensor of bytes.</summary>
    public static byte[] Write(IReadOnlyDictionary<string, string> metadata, string name, ReadOnlySpan<byte> bytes)
    {
        var written = Begin(metadata, [(name, UInt8, [bytes.Length], bytes.Length)], bytes.Length, out var position);
        bytes.CopyTo(written.AsSpan(position));
        return written;
    }

    /// <summary>Writes a container of float32 tensors in the order given.</summary>
    public static byte[] Write(IReadOnlyDictionary<string, string> metadata, IReadOnlyList<(string Name, int[] Shape, float[] Values)> tensors)
    {
        var offset = 0;
        var layout = new List<LayoutTensor>(tensors.Count);
        foreach (var (name, shape, values) in tensors)
        {
            layout.Add(new LayoutTensor(name, shape, offset, values.Length));
            offset += values.Length;
        }

        var row = new float[offset];
        offset = 0;
        foreach (var (_, _, values) in tensors)
        {
            values.CopyTo(row, offset);
            offset += values.Length;
        }

        return Write(metadata, layout, row);
    }

    /// <summary>Writes a container; tensors lie in the order given.</summary>
    internal static byte[] Write(IReadOnlyDictionary<string, string> metadata, IReadOnlyList<LayoutTensor> tensors, ReadOnlySpan<float> row)
    {
        var entries = tensors.Select(tensor => (tensor.Name, Float32, tensor.Shape, tensor.Length * sizeof(float)));
        var file = Begin(metadata, [.. entries], tensors.Sum(tensor => tensor.Length * sizeof(float)), out var position);
        foreach (var tensor in tensors)
        {
            var values = row.Slice(tensor.Offset, tensor.Length);
            if (BitConverter.IsLittleEndian)
            {
                MemoryMarshal.AsBytes(values).CopyTo(file.AsSpan(position));
                position += tensor.Length * sizeof(float);
                continue;
            }

            foreach (var value in values)
            {
                BinaryPrimitives.WriteSingleLittleEndian(file.AsSpan(position), value);
                position += sizeof(float);
            }
        }

        return file;
    }

    // A file with its header written and room for the data, which starts at the position.
    private static byte[] Begin(IReadOnlyDictionary<string, string> metadata, (string Name, string Type, int[] Shape, int Bytes)[] tensors, int dataLength, out int position)
    {
        using var json = new MemoryStream();
        using (var writer = new Utf8JsonWriter(json))
        {
            writer.WriteStartObject();
            writer.WriteStartObject("__metadata__");
            foreach (var (key, value) in metadata)
            {
                writer.WriteString(key, value);
            }

            writer.WriteEndObject();
            var offset = 0;
            foreach (var tensor in tensors)
            {
                writer.WriteStartObject(tensor.Name);
                writer.WriteString("dtype", tensor.Type);
                writer.WriteStartArray("shape");
                foreach (var extent in tensor.Shape)
                {
                    writer.WriteNumberValue(extent);
                }

                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(offset);
                offset += tensor.Bytes;
                writer.WriteNumberValue(offset);
                writer.WriteEndArray();
                writer.WriteEndObject();
            }

            writer.WriteEndObject();
        }

        // Data starts on eight bytes, as the format recommends; spaces fill the header.
        var padding = (int)(-json.Length & 7);
        json.Write(Encoding.ASCII.GetBytes(new string(' ', padding)));
        var header = json.ToArray();
        var file = new byte[8 + header.Length + dataLength];
        BinaryPrimitives.WriteUInt64LittleEndian(file, (ulong)header.Length);
        header.CopyTo(file, 8);
        position = 8 + header.Length;
        return file;
    }

    private static void CheckTokens(ReadOnlySpan<byte> header)
    {
        var reader = new Utf8JsonReader(header);
        for (var tokens = 0; reader.Read(); tokens++)
        {
            if (tokens == MaxTokens)
            {
                throw new SnapshotException($"the header has more than {MaxTokens} JSON tokens, as no file of {MaxTensors} tensors has");
            }
        }
    }

    private static Safetensors Parse(JsonElement root, int dataLength)
    {
        var tensors = new Dictionary<string, (string, int[], int, int)>(StringComparer.Ordinal);
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var expected = 0;
        foreach (var entry in root.EnumerateObject())
        {
            if (entry.Name == "__metadata__")
            {
                foreach (var pair in entry.Value.EnumerateObject())
                {
                    if (metadata.Count == MaxMetadata)
                    {
                        throw new SnapshotException($"the metadata has more than {MaxMetadata} entries");
                    }

                    if (!metadata.TryAdd(pair.Name, pair.Value.GetString() ?? ""))
                    {
                        throw new SnapshotException($"the metadata has '{ForeignText.Clip(pair.Name)}' twice");
                    }
                }

                continue;
            }

            var dtype = entry.Value.GetProperty("dtype").GetString();
            if (dtype is not (Float32 or UInt8))
            {
                throw new SnapshotException($"tensor '{ForeignText.Clip(entry.Name)}' is {ForeignText.Clip(dtype ?? "null")}; only {Float32} and {UInt8} are read");
            }

            if (tensors.Count == MaxTensors || entry.Value.GetProperty("shape").GetArrayLength() > MaxAxes)
            {
                throw new SnapshotException($"the file has more than {MaxTensors} tensors, or one of more than {MaxAxes} axes");
            }

            int[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(extent => extent.GetInt32())];
            var start = entry.Value.GetProperty("data_offsets")[0].GetInt32();
            var end = entry.Value.GetProperty("data_offsets")[1].GetInt32();
            var bytes = shape.Aggregate(dtype == Float32 ? 4L : 1L, (product, extent) => checked(product * extent));
            if (start != expected || end - (long)start != bytes || end > dataLength || bytes < 0)
            {
                throw new SnapshotException($"tensor '{ForeignText.Clip(entry.Name)}' lies at bytes {start} to {end} of {dataLength}, which does not fit its shape: the "
                    + "file is cut short or damaged");
            }

            expected = end;
            if (!tensors.TryAdd(entry.Name, (dtype, shape, start, end)))
            {
                throw new SnapshotException($"tensor '{ForeignText.Clip(entry.Name)}' occurs twice");
            }
        }

        return expected == dataLength
            ? new Safetensors(tensors, metadata)
            : throw new SnapshotException($"the tensors end at byte {expected}, the data at {dataLength}: the file is damaged");
    }
}
