using System.Runtime.InteropServices;
using Google.Protobuf;
using SkiaSharp;
using TtaService.Engine.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Frames for the tiny model (3x16x16), the same for the same number.</summary>
internal static class TestFrames
{
    public static Frame Tensor(int number) => Tensor([3, 16, 16], Values(number));

    public static Frame Tensor(int[] shape, float[] values) =>
        new() { Tensor = new FloatTensor { Shape = { shape }, Data = ByteString.CopyFrom(MemoryMarshal.AsBytes(values.AsSpan())) } };

    public static float[] Values(int number)
    {
        var random = new Random(number);
        var level = random.NextSingle() * 2;
        var values = new float[3 * 16 * 16];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = level + random.NextSingle() - 0.5f;
        }

        return values;
    }

    public static Frame Encoded(byte[] file) => new() { Encoded = ByteString.CopyFrom(file) };

    public static byte[] File(int number, SKEncodedImageFormat format, int width = 32, int height = 24)
    {
        var random = new Random(number);
        using var bitmap = new SKBitmap(width, height, SKColorType.Rgba8888, SKAlphaType.Opaque);
        for (var y = 0; y < height; y++)
        {
            for (var x = 0; x < width; x++)
            {
                bitmap.SetPixel(x, y, new SKColor((byte)random.Next(256), (byte)(x * 255 / width), (byte)(y * 255 / height)));
            }
        }

        using var data = bitmap.Encode(format, 90);
        return data.ToArray();
    }

    public static Frame Raw(int width, int height, int stride, RawImage.Types.Format format, int bytes) =>
        new() { Raw = new RawImage { Width = width, Height = height, Stride = stride, Format = format, Data = ByteString.CopyFrom(new byte[bytes]) } };

    /// <summary>The numbers of a snapshot, behind its header.</summary>
    public static float[] State(byte[] snapshot) => MemoryMarshal.Cast<byte, float>(snapshot.AsSpan(8 + checked((int)BitConverter.ToUInt64(snapshot)))).ToArray();

    /// <summary>A snapshot's tensors without what was observed: a frozen stream is still watched.</summary>
    public static byte[] Adapted(byte[] snapshot)
    {
        var content = Safetensors.Read(snapshot);
        return [.. content.Names.Where(name => !name.Contains(".observed_", StringComparison.Ordinal) && !name.EndsWith(".feature_var", StringComparison.Ordinal))
            .SelectMany(name => content.Bytes(snapshot, name).ToArray())];
    }

    /// <summary>The two agree within 1e-4.</summary>
    public static void AssertClose(float[] expected, float[] actual)
    {
        Assert.Equal(expected.Length, actual.Length);
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.True(Math.Abs(expected[i] - actual[i]) <= 1e-4, $"at {i}: {expected[i]} and {actual[i]}");
        }
    }

    public static float[] Scores(StepReply reply) => MemoryMarshal.Cast<byte, float>(reply.Outputs[0].Data.Span).ToArray();
}
