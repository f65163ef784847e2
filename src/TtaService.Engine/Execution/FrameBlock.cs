namespace TtaService.Engine.Execution;

/// <summary>The frames of one step, preprocessed to the model's input size, in plain memory.</summary>
/// <remarks>Either <see cref="Pixels"/> (uint8, normalized by the engine with the model's <see cref="InputNormalization"/>) or
/// <see cref="Values"/> (float32, used as they are) is set. Layout [N,C,H,W], row-major.</remarks>
public sealed class FrameBlock
{
    private FrameBlock(int count, int channels, int height, int width)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(count, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(channels, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(height, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(width, 1);
        (Count, Channels, Height, Width) = (count, channels, height, width);
    }

    /// <summary>Frames in the block, N.</summary>
    public int Count { get; }

    /// <summary>Channels of a frame, C.</summary>
    public int Channels { get; }

    /// <summary>Rows of a frame, H.</summary>
    public int Height { get; }

    /// <summary>Columns of a frame, W.</summary>
    public int Width { get; }

    /// <summary>uint8 pixels, empty when the block holds float values.</summary>
    public ReadOnlyMemory<byte> Pixels { get; private init; }

    /// <summary>float32 values, empty when the block holds pixels.</summary>
    public ReadOnlyMemory<float> Values { get; private init; }

    /// <summary>A block over uint8 pixels, N*C*H*W of them; the memory is not copied and must stay until the step has ended.</summary>
    public static FrameBlock FromPixels(ReadOnlyMemory<byte> pixels, int count, int channels, int height, int width)
    {
        var block = new FrameBlock(count, channels, height, width) { Pixels = pixels };
        ArgumentOutOfRangeException.ThrowIfNotEqual((long)pixels.Length, block.Elements);
        return block;
    }

    /// <summary>A block over float32 values, N*C*H*W of them; the memory is not copied and must stay until the step has ended.</summary>
    public static FrameBlock FromValues(ReadOnlyMemory<float> values, int count, int channels, int height, int width)
    {
        var block = new FrameBlock(count, channels, height, width) { Values = values };
        ArgumentOutOfRangeException.ThrowIfNotEqual((long)values.Length, block.Elements);
        return block;
    }

    /// <summary>A copy of one frame, which outlives this block's memory.</summary>
    public FrameBlock CopyFrame(int frame)
    {
        var size = Channels * Height * Width;
        return Pixels.IsEmpty
            ? FromValues(Values.Slice(frame * size, size).ToArray(), 1, Channels, Height, Width)
            : FromPixels(Pixels.Slice(frame * size, size).ToArray(), 1, Channels, Height, Width);
    }

    /// <summary>Some of the frames, over the same memory.</summary>
    internal FrameBlock Slice(int first, int count)
    {
        if (first == 0 && count == Count)
        {
            return this;
        }

        var size = Channels * Height * Width;
        return Pixels.IsEmpty
            ? FromValues(Values.Slice(first * size, count * size), count, Channels, Height, Width)
            : FromPixels(Pixels.Slice(first * size, count * size), count, Channels, Height, Width);
    }

    private long Elements => checked((long)Count * Channels * Height * Width);
}

/// <summary>How uint8 pixels become the model's input: (pixel / 255 - Mean[c]) / Std[c], torchvision's ToTensor and Normalize.</summary>
/// <param name="Mean">Per channel, in [0,1].</param>
/// <param name="Std">Per channel, positive.</param>
public sealed record InputNormalization(float[] Mean, float[] Std)
{
    /// <summary>The ImageNet statistics that torchvision's classifiers are trained with.</summary>
    public static InputNormalization ImageNet { get; } = new([0.485f, 0.456f, 0.406f], [0.229f, 0.224f, 0.225f]);
}
