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
    public FrameBlock CopyFrame(int frame) => CopyFrames(frame, 1);

    /// <summary>A copy of neighbouring frames, which outlives this block's memory.</summary>
    /// <param name="first">The first of them.</param>
    /// <param name="count">How many they are.</param>
    public FrameBlock CopyFrames(int first, int count)
    {
        var size = Channels * Height * Width;
        return Pixels.IsEmpty
            ? FromValues(Values.Slice(first * size, count * size).ToArray(), count, Channels, Height, Width)
            : FromPixels(Pixels.Slice(first * size, count * size).ToArray(), count, Channels, Height, Width);
    }

    /// <summary>The same memory as clips of so many frames: [N,C,H,W] as [N/T,T*C,H,W]. N is a multiple of T.</summary>
    internal FrameBlock AsClips(int frames) => frames == 1 ? this
        : Pixels.IsEmpty ? FromValues(Values, Count / frames, Channels * frames, Height, Width) : FromPixels(Pixels, Count / frames, Channels * frames, Height, Width);

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

    /// <summary>A copy of some frames, in the order given.</summary>
    internal FrameBlock Copy(IReadOnlyList<int> frames)
    {
        var size = Channels * Height * Width;
        var (pixels, values) = (new byte[Pixels.IsEmpty ? 0 : frames.Count * size], new float[Pixels.IsEmpty ? frames.Count * size : 0]);
        for (var i = 0; i < frames.Count; i++)
        {
            if (Pixels.IsEmpty)
            {
                Values.Slice(frames[i] * size, size).CopyTo(values.AsMemory(i * size));
            }
            else
            {
                Pixels.Slice(frames[i] * size, size).CopyTo(pixels.AsMemory(i * size));
            }
        }

        return Pixels.IsEmpty ? FromValues(values, frames.Count, Channels, Height, Width) : FromPixels(pixels, frames.Count, Channels, Height, Width);
    }

    private long Elements => checked((long)Count * Channels * Height * Width);
}

/// <summary>How uint8 pixels become the model's input: (pixel / 255 - Mean[c]) / Std[c], torchvision's ToTensor and Normalize.</summary>
/// <param name="Mean">Per channel, in [0,1].</param>
/// <param name="Std">Per channel, positive.</param>
public sealed record InputNormalization(float[] Mean, float[] Std)
{
    /// <summary>Per channel; set together with <see cref="Offset"/>: the input is then pixel * Scale[c] + Offset[c], which <see cref="Mean"/> and <see cref="Std"/> say
    /// in their way.</summary>
    public float[]? Scale { get; private init; }

    /// <summary>Per channel; see <see cref="Scale"/>.</summary>
    public float[]? Offset { get; private init; }

    /// <summary>pixel * scale[c] + offset[c], computed so.</summary>
    /// <param name="scale">Per channel, not 0.</param>
    /// <param name="offset">Per channel.</param>
    public static InputNormalization Scaled(float[] scale, float[] offset) =>
        new([.. scale.Zip(offset, (factor, term) => -term / (255 * factor))], Array.ConvertAll(scale, factor => 1 / (255 * factor))) { Scale = scale, Offset = offset };

    /// <summary>Pixels as they are, 0 to 255.</summary>
    public static InputNormalization Pixels(int channels) => Scaled([.. Enumerable.Repeat(1f, channels)], new float[channels]);

    /// <summary>The value of a pixel.</summary>
    public float Apply(int level, int channel) => Scale is null ? ((level / 255f) - Mean[channel]) / Std[channel] : (level * Scale[channel]) + Offset![channel];

    /// <summary>The ImageNet statistics that torchvision's classifiers are trained with.</summary>
    public static InputNormalization ImageNet { get; } = new([0.485f, 0.456f, 0.406f], [0.229f, 0.224f, 0.225f]);
}
