using System.Buffers.Binary;
using System.Runtime.InteropServices;
using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>A tensor as it travels: row-major and little-endian; of <see cref="Datatype.Bytes"/> each element behind its length in four bytes.</summary>
internal sealed class Tensor
{
    private const int MaxRank = 16;

    private Tensor(string name, Datatype datatype, IReadOnlyList<long> shape, ReadOnlyMemory<byte> data, int elements)
    {
        Name = name;
        Datatype = datatype;
        Shape = shape;
        Data = data;
        Elements = elements;
    }

    public string Name { get; }

    public Datatype Datatype { get; }

    public IReadOnlyList<long> Shape { get; }

    public ReadOnlyMemory<byte> Data { get; }

    /// <summary>The product of the shape.</summary>
    public int Elements { get; }

    /// <summary>A tensor from elsewhere.</summary>
    /// <exception cref="FailureException">Shape and data do not fit each other.</exception>
    public static Tensor Read(string name, Datatype datatype, IReadOnlyList<long> shape, ReadOnlyMemory<byte> data)
    {
        var elements = CountOf(name, shape);
        var tensor = new Tensor(name, datatype, shape, data, elements);
        if (datatype != Datatype.Bytes && data.Length != (long)elements * datatype.Size())
        {
            throw Wrong(name, $"has shape [{string.Join(',', shape)}] of {datatype.Name()}, which is {(long)elements * datatype.Size()} bytes, but {data.Length} came");
        }

        if (datatype == Datatype.Bytes)
        {
            tensor.CheckTexts();
        }

        return tensor;
    }

    /// <summary>A tensor of numbers.</summary>
    public static Tensor Of<T>(string name, Datatype datatype, IReadOnlyList<long> shape, ReadOnlySpan<T> values)
        where T : unmanaged =>
        Read(name, datatype, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>A tensor of texts or files.</summary>
    public static Tensor Of(string name, IReadOnlyList<long> shape, IReadOnlyList<ReadOnlyMemory<byte>> elements)
    {
        var data = new byte[elements.Sum(element => sizeof(int) + element.Length)];
        var rest = data.AsSpan();
        foreach (var element in elements)
        {
            BinaryPrimitives.WriteInt32LittleEndian(rest, element.Length);
            element.Span.CopyTo(rest[sizeof(int)..]);
            rest = rest[(sizeof(int) + element.Length)..];
        }

        return Read(name, Datatype.Bytes, shape, data);
    }

    /// <summary>The elements that a shape makes.</summary>
    /// <exception cref="FailureException">It is none.</exception>
    public static int CountOf(string name, IReadOnlyList<long> shape)
    {
        var elements = 1L;
        foreach (var extent in shape)
        {
            elements = extent < 0 || (extent > 0 && elements > int.MaxValue / extent) ? -1 : elements * extent;
            if (elements < 0)
            {
                break;
            }
        }

        return elements >= 0 && shape.Count <= MaxRank
            ? (int)elements
            : throw Wrong(name, $"has shape [{string.Join(',', shape.Take(MaxRank))}], which is none: at most {MaxRank} axes, none below 0, and at most {int.MaxValue} elements");
    }

    /// <summary>The numbers, without a copy where the machine is little-endian, as libtorch's are.</summary>
    public ReadOnlySpan<T> As<T>()
        where T : unmanaged => MemoryMarshal.Cast<byte, T>(Data.Span);

    /// <summary>The elements of <see cref="Datatype.Bytes"/>.</summary>
    public IReadOnlyList<ReadOnlyMemory<byte>> Texts()
    {
        var texts = new ReadOnlyMemory<byte>[Elements];
        var at = 0;
        for (var i = 0; i < texts.Length; i++)
        {
            var length = BinaryPrimitives.ReadInt32LittleEndian(Data.Span[at..]);
            texts[i] = Data.Slice(at + sizeof(int), length);
            at += sizeof(int) + length;
        }

        return texts;
    }

    private static FailureException Wrong(string name, string what) =>
        new(Failure.Invalid("TENSOR_SIZE_WRONG", ForeignText.Clip(name), $"tensor '{ForeignText.Clip(name)}' {what}"));

    // Every length ends within the data, and the last one at its end.
    private void CheckTexts()
    {
        var rest = Data.Span;
        for (var i = 0; i < Elements; i++)
        {
            if (rest.Length < sizeof(int))
            {
                throw Wrong(Name, $"has {i} elements, not the {Elements} that its shape says");
            }

            var length = BinaryPrimitives.ReadUInt32LittleEndian(rest);
            if (length > rest.Length - sizeof(int))
            {
                throw Wrong(Name, $"says that element {i} has {length} bytes, but only {rest.Length - sizeof(int)} follow");
            }

            rest = rest[(sizeof(int) + (int)length)..];
        }

        if (rest.Length > 0)
        {
            throw Wrong(Name, $"has {rest.Length} bytes behind the {Elements} elements that its shape says");
        }
    }
}
