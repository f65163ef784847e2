using System.Buffers.Binary;
using System.Runtime.InteropServices;
using TorchSharp;
using TtaService.Engine.Onnx.Wire;
using static TorchSharp.torch;
using DataType = TtaService.Engine.Onnx.Wire.TensorProto.Types.DataType;

namespace TtaService.Engine.Onnx;

/// <summary>ONNX tensors to torch tensors on the CPU. float16, bfloat16 and double become float32; small integers become int64.</summary>
internal sealed class TensorDecoder(string modelFolder)
{
    private const long MaxElements = 1L << 31;

    /// <summary>Decodes a tensor.</summary>
    /// <exception cref="ModelLoadException">Unknown type, or sizes that do not fit the data.</exception>
    public Tensor Decode(TensorProto proto)
    {
        var elements = 1L;
        foreach (var extent in proto.Dims)
        {
            if (extent < 0 || (extent > 0 && elements > MaxElements / extent))
            {
                throw Problem(proto, $"has dimensions [{string.Join(',', proto.Dims)}], which is more than {MaxElements} values or negative");
            }

            elements *= extent;
        }

        var type = (DataType)proto.DataType;
        long[] shape = [.. proto.Dims];
        if (proto.DataLocation == TensorProto.Types.DataLocation.External)
        {
            return FromBytes(proto, type, new ExternalData(modelFolder).Read(proto, elements * Size(proto, type)), elements, shape);
        }

        if (proto.HasRawData)
        {
            return FromBytes(proto, type, proto.RawData.Span, elements, shape);
        }

        return type switch
        {
            DataType.Float => Typed(proto, proto.FloatData, elements, shape, value => value),
            DataType.Double => Typed(proto, proto.DoubleData, elements, shape, value => (float)value),
            DataType.Float16 => Typed(proto, proto.Int32Data, elements, shape, value => (float)BitConverter.UInt16BitsToHalf((ushort)value)),
            DataType.Bfloat16 => Typed(proto, proto.Int32Data, elements, shape, value => BitConverter.Int32BitsToSingle(value << 16)),
            DataType.Int64 => Typed(proto, proto.Int64Data, elements, shape, value => value),
            DataType.Uint64 or DataType.Uint32 => Typed(proto, proto.Uint64Data, elements, shape, value => checked((long)value)),
            DataType.Int32 or DataType.Int16 or DataType.Int8 or DataType.Uint16 or DataType.Uint8 => Typed(proto, proto.Int32Data, elements, shape, value => (long)value),
            DataType.Bool => Typed(proto, proto.Int32Data, elements, shape, value => value != 0),
            _ => throw Problem(proto, $"has element type {type}, which is not supported"),
        };
    }

    private static Tensor FromBytes(TensorProto proto, DataType type, ReadOnlySpan<byte> data, long elements, long[] shape)
    {
        var size = Size(proto, type);
        if (data.Length != elements * size)
        {
            throw Problem(proto, $"holds {data.Length} bytes, its dimensions need {elements * size}");
        }

        switch (type)
        {
            case DataType.Float:
                return New(Convert<float>(data, 4, BinaryPrimitives.ReadSingleLittleEndian), shape);
            case DataType.Double:
                return New(Convert(data, 8, bytes => (float)BinaryPrimitives.ReadDoubleLittleEndian(bytes)), shape);
            case DataType.Float16:
                return New(Convert(data, 2, bytes => (float)BinaryPrimitives.ReadHalfLittleEndian(bytes)), shape);
            case DataType.Bfloat16:
                return New(Convert(data, 2, bytes => BitConverter.Int32BitsToSingle(BinaryPrimitives.ReadUInt16LittleEndian(bytes) << 16)), shape);
            case DataType.Int64:
                return New(Convert<long>(data, 8, BinaryPrimitives.ReadInt64LittleEndian), shape);
            case DataType.Uint64:
                return New(Convert(data, 8, bytes => checked((long)BinaryPrimitives.ReadUInt64LittleEndian(bytes))), shape);
            case DataType.Int32:
                return New(Convert(data, 4, bytes => (long)BinaryPrimitives.ReadInt32LittleEndian(bytes)), shape);
            case DataType.Uint32:
                return New(Convert(data, 4, bytes => (long)BinaryPrimitives.ReadUInt32LittleEndian(bytes)), shape);
            case DataType.Int16:
                return New(Convert(data, 2, bytes => (long)BinaryPrimitives.ReadInt16LittleEndian(bytes)), shape);
            case DataType.Uint16:
                return New(Convert(data, 2, bytes => (long)BinaryPrimitives.ReadUInt16LittleEndian(bytes)), shape);
            case DataType.Int8:
                return New(Convert(data, 1, bytes => (long)(sbyte)bytes[0]), shape);
            case DataType.Uint8:
                return New(Convert(data, 1, bytes => (long)bytes[0]), shape);
            default:
                return New(Convert(data, 1, bytes => bytes[0] != 0), shape);
        }
    }

    private static int Size(TensorProto proto, DataType type) => type switch
    {
        DataType.Double or DataType.Int64 or DataType.Uint64 => 8,
        DataType.Float or DataType.Int32 or DataType.Uint32 => 4,
        DataType.Float16 or DataType.Bfloat16 or DataType.Int16 or DataType.Uint16 => 2,
        DataType.Int8 or DataType.Uint8 or DataType.Bool => 1,
        _ => throw Problem(proto, $"has element type {type}, which is not supported"),
    };

    private delegate T Reader<T>(ReadOnlySpan<byte> bytes);

    private static T[] Convert<T>(ReadOnlySpan<byte> data, int size, Reader<T> read)
        where T : unmanaged
    {
        var values = new T[data.Length / size];
        if (BitConverter.IsLittleEndian && size == Marshal.SizeOf<T>() && typeof(T) != typeof(bool))
        {
            data.CopyTo(MemoryMarshal.AsBytes(values.AsSpan()));
            return values;
        }

        for (var i = 0; i < values.Length; i++)
        {
            values[i] = read(data.Slice(i * size, size));
        }

        return values;
    }

    private static Tensor Typed<TFrom, TTo>(TensorProto proto, IReadOnlyCollection<TFrom> data, long elements, long[] shape, Func<TFrom, TTo> convert)
        where TTo : unmanaged =>
        data.Count == elements ? New([.. data.Select(convert)], shape) : throw Problem(proto, $"holds {data.Count} values, its dimensions need {elements}");

    private static Tensor New<T>(T[] values, long[] shape)
        where T : unmanaged => values switch
        {
            float[] floats => tensor(floats, shape),
            long[] longs => tensor(longs, shape),
            bool[] bools => tensor(bools, shape),
            _ => throw new ArgumentException($"{typeof(T)} has no tensor", nameof(values)),
        };

    private static ModelLoadException Problem(TensorProto proto, string problem) => new($"tensor '{proto.Name}' {problem}");
}
