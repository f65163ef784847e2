using System.Runtime.InteropServices;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Drift;

/// <summary>What tells a broken camera from its picture alone.</summary>
/// <param name="Blank">All pixels are nearly the same: a covered lens, a black or a grey picture.</param>
/// <param name="Digest">Equal for equal frames: a camera that stands still sends one again and again.</param>
internal readonly record struct FrameFacts(bool Blank, ulong Digest)
{
    // Standard deviation: 1 of 255 levels, 0.005 of normalized values. Sensor noise alone is more.
    private const double BlankPixels = 1;
    private const double BlankValues = 0.005;

    /// <summary>Reads one frame of a block.</summary>
    public static FrameFacts Of(FrameBlock block, int frame)
    {
        var size = block.Channels * block.Height * block.Width;
        if (block.Pixels.IsEmpty)
        {
            var values = block.Values.Span.Slice(frame * size, size);
            return new FrameFacts(Deviation(values) < BlankValues, Hash(MemoryMarshal.AsBytes(values)));
        }

        var pixels = block.Pixels.Span.Slice(frame * size, size);
        return new FrameFacts(Deviation(pixels) < BlankPixels, Hash(pixels));
    }

    private static double Deviation(ReadOnlySpan<byte> pixels)
    {
        long sum = 0, squares = 0;
        foreach (int pixel in pixels)
        {
            sum += pixel;
            squares += pixel * pixel;
        }

        var mean = (double)sum / pixels.Length;
        return Math.Sqrt(Math.Max(0, ((double)squares / pixels.Length) - (mean * mean)));
    }

    private static double Deviation(ReadOnlySpan<float> values)
    {
        var origin = values[0];
        double sum = 0, squares = 0;
        foreach (var value in values)
        {
            var d = value - origin;
            sum += d;
            squares += d * d;
        }

        var mean = sum / values.Length;
        return Math.Sqrt(Math.Max(0, (squares / values.Length) - (mean * mean)));
    }

    // Equality of one camera's neighbouring frames is all that it must tell, so speed matters more than strength.
    private static ulong Hash(ReadOnlySpan<byte> bytes)
    {
        var hash = 0x9E3779B97F4A7C15UL;
        foreach (var word in MemoryMarshal.Cast<byte, ulong>(bytes))
        {
            hash = Math.BigMul(hash ^ word, 0xD6E8FEB86659FD93UL, out var low) ^ low ^ 0xA0761D6478BD642FUL;
        }

        foreach (var rest in bytes[(bytes.Length & ~7)..])
        {
            hash = ((hash ^ rest) * 0xD6E8FEB86659FD93UL) ^ (hash >> 29);
        }

        return hash;
    }
}
