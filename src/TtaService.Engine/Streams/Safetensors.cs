using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;

namespace TtaService.Engine.Streams;

/// <summary>The safetensors container, float32 tensors only: 8-byte little-endian header length, JSON header, raw little-endian data.</summary>
internal sealed class Safetensors
{
    private const int MaxHeaderBytes = 16 << 20;

    private readonly Dictionary<string, (int[] Shape, int Start, int End)> _tensors;

    private Safetensors(Dictionary<string, (int[], int, int)> tensors, Dictionary<string, string> metadata)
    {
        _tensors = tensors;
        Metadata = metadata;
    }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    public IEnumerable<string> Names => _tensors.Keys;

    public int[] Shape(string name) => _tensors[name].Shape;

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
            throw new SnapshotException($"the header should have {headerLength} bytes, the file has {file.Length - 8} after its length (limit {MaxHeaderBytes}): it is cut short or not safetensors");
        }

        var dataLength = file.Length - 8 - (int)headerLength;
        try
        {
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

    /// <summary>Copies a tensor's values.</summary>
    public void CopyTo(ReadOnlySpan<byte> file, string name, Span<float> destination)
    {
        var (_, start, end) = _tensors[name];
        var data = file[(8 + (int)BinaryPrimitives.ReadUInt64LittleEndian(file))..][start..end];
        for (var i = 0; i < destination.Length; i++)
        {
            destination[i] = BinaryPrimitives.ReadSingleLittleEndian(data[(4 * i)..]);
        }
    }

    /// <summary>Writes a container; tensors lie in the order given.</summary>
    public static byte[] Write(IReadOnlyDictionary<string, string> metadata, IReadOnlyList<LayoutTensor> tensors, ReadOnlySpan<float> row)
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
                writer.WriteString("dtype", "F32");
                writer.WriteStartArray("shape");
                foreach (var extent in tensor.Shape)
                {
                    writer.WriteNumberValue(extent);
                }

                writer.WriteEndArray();
                writer.WriteStartArray("data_offsets");
                writer.WriteNumberValue(offset);
                offset += tensor.Length * sizeof(float);
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
        var file = new byte[8 + header.Length + tensors.Sum(tensor => tensor.Length * sizeof(float))];
        BinaryPrimitives.WriteUInt64LittleEndian(file, (ulong)header.Length);
        header.CopyTo(file, 8);
        var position = 8 + header.Length;
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

    private static Safetensors Parse(JsonElement root, int dataLength)
    {
        var tensors = new Dictionary<string, (int[], int, int)>(StringComparer.Ordinal);
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        var expected = 0;
        foreach (var entry in root.EnumerateObject())
        {
            if (entry.Name == "__metadata__")
            {
                foreach (var pair in entry.Value.EnumerateObject())
                {
                    metadata[pair.Name] = pair.Value.GetString() ?? "";
                }

                continue;
            }

            var dtype = entry.Value.GetProperty("dtype").GetString();
            if (dtype != "F32")
            {
                throw new SnapshotException($"tensor '{entry.Name}' is {dtype}; only F32 is read");
            }

            int[] shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(extent => extent.GetInt32())];
            var start = entry.Value.GetProperty("data_offsets")[0].GetInt32();
            var end = entry.Value.GetProperty("data_offsets")[1].GetInt32();
            var bytes = shape.Aggregate(4L, (product, extent) => checked(product * extent));
            if (start != expected || end - (long)start != bytes || end > dataLength || bytes < 0)
            {
                throw new SnapshotException($"tensor '{entry.Name}' lies at bytes {start} to {end} of {dataLength}, which does not fit its shape: the file is cut short or damaged");
            }

            expected = end;
            if (!tensors.TryAdd(entry.Name, (shape, start, end)))
            {
                throw new SnapshotException($"tensor '{entry.Name}' occurs twice");
            }
        }

        return expected == dataLength
            ? new Safetensors(tensors, metadata)
            : throw new SnapshotException($"the tensors end at byte {expected}, the data at {dataLength}: the file is damaged");
    }
}
