using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Numerics.Tensors;
using System.Text.Json;
using TtaService.Engine;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>Encodes snapshots for the store. Thread-safe.</summary>
/// <remarks>
/// <c>float16_delta</c>: of a tensor <c>&lt;site&gt;.…_mean</c> the site's source mean is subtracted, of <c>…_var</c> the source variance, of <c>…_std</c> its root,
/// unless the
/// differences are larger than the values themselves: a variance far below the source's would drown in the rounding of its difference. What is left is scaled by a power of two
/// per tensor so that the largest is below 2^15, rounded to float16, split into planes of high and low bytes and compressed (Brotli).
/// A difference d comes back off by at most 2^-11 |d| + 2^-39 max|d|, plus the float32 rounding of the sum; a variance v by at most 2^-11 v + 2^-39 max v.
/// </remarks>
/// <param name="encoding">What <see cref="Encode"/> writes; both are read.</param>
/// <param name="sites">The normalization sites of the model with this digest; null when it is not loaded.</param>
internal sealed class SnapshotCodec(SnapshotEncoding encoding, Func<string, IReadOnlyList<NormalizationSite>?> sites)
{
    private const string EncodingKey = "encoding";
    private const string TensorsKey = "encoded_tensors";
    private const string Payload = "payload";
    private const int LargestExponent = 14;
    private const int MaxDecodedBytes = 1 << 30;

    private static readonly string Delta = SnakeCaseEnumConverter<SnapshotEncoding>.Name(SnapshotEncoding.Float16Delta);

    /// <summary>The snapshot as it is stored. One of a model that is not loaded stays as it is.</summary>
    /// <exception cref="SnapshotException">Not a snapshot.</exception>
    public byte[] Encode(byte[] snapshot)
    {
        if (encoding == SnapshotEncoding.Lossless)
        {
            return snapshot;
        }

        var content = Safetensors.Read(snapshot);
        if (!content.Metadata.TryGetValue("model", out var model) || sites(model) is not { } known)
        {
            return snapshot;
        }

        var source = new SourceValues(known);
        var tensors = new List<EncodedTensor>();
        using var halves = new MemoryStream();
        foreach (var name in content.Names)
        {
            var shape = content.Shape(name);
            var values = new float[shape.Aggregate(1, (product, extent) => product * extent)];
            content.CopyTo(snapshot, name, values);
            var fromSource = Subtract(values, source.Of(name, shape), SourceValues.IsSpread(name));
            var exponent = Exponent(values);
            tensors.Add(new EncodedTensor(name, shape, exponent, fromSource));
            Append(halves, values, exponent);
        }

        var metadata = new Dictionary<string, string>(content.Metadata)
        {
            [EncodingKey] = Delta,
            [TensorsKey] = JsonSerializer.Serialize(tensors),
        };
        return Safetensors.Write(metadata, Payload, Compress(halves.ToArray()));
    }

    /// <summary>The snapshot as the engine takes it.</summary>
    /// <exception cref="SnapshotException">Not decodable here; the message says why.</exception>
    public byte[] Decode(byte[] stored)
    {
        var content = Safetensors.Read(stored);
        if (!content.Metadata.TryGetValue(EncodingKey, out var used))
        {
            return stored;
        }

        if (used != Delta)
        {
            throw new SnapshotException($"the snapshot's encoding is '{ForeignText.Clip(used)}'; this version reads '{Delta}'");
        }

        var model = content.Metadata.GetValueOrDefault("model") ?? "";
        var source = new SourceValues(sites(model) ?? throw new SnapshotException($"the snapshot is encoded as differences from the statistics of model "
            + $"{ForeignText.Clip(model)}, which is not loaded"));
        try
        {
            var tensors = JsonSerializer.Deserialize<List<EncodedTensor>>(content.Metadata[TensorsKey])!;
            var floats = tensors.Sum(tensor => tensor.Shape.Aggregate(1L, (product, extent) => checked(product * (uint)extent)));
            if (floats > MaxDecodedBytes / sizeof(float))
            {
                throw new SnapshotException($"the snapshot would have {floats} numbers, at most {MaxDecodedBytes / sizeof(float)} are read");
            }

            var halves = Decompress(content.Bytes(stored, Payload), (int)floats * 2);
            var metadata = content.Metadata.Where(pair => pair.Key is not (EncodingKey or TensorsKey)).ToDictionary();
            return Safetensors.Write(metadata, Restore(tensors, halves, source));
        }
        catch (Exception e) when (e is KeyNotFoundException or JsonException or InvalidDataException or OverflowException or NullReferenceException)
        {
            throw new SnapshotException($"the encoded snapshot can't be read: {ForeignText.Clip(e.Message, 400)}");
        }
    }

    private static List<(string, int[], float[])> Restore(List<EncodedTensor> tensors, byte[] halves, SourceValues source)
    {
        var decoded = new List<(string, int[], float[])>(tensors.Count);
        var at = 0;
        foreach (var tensor in tensors)
        {
            var values = new float[tensor.Shape.Aggregate(1, (product, extent) => product * extent)];
            var high = halves.AsSpan(at, values.Length);
            var low = halves.AsSpan(at + values.Length, values.Length);
            at += 2 * values.Length;
            var origin = tensor.FromSource ? source.Of(tensor.Name, tensor.Shape) : SourceValues.Nothing;
            var floor = SourceValues.IsSpread(tensor.Name) ? 0 : float.NegativeInfinity;
            for (var i = 0; i < values.Length; i++)
            {
                var half = BitConverter.UInt16BitsToHalf((ushort)((high[i] << 8) | low[i]));
                values[i] = Math.Max(floor, origin[i % origin.Length] + MathF.ScaleB((float)half, tensor.Exponent));
            }

            decoded.Add((tensor.Name, tensor.Shape, values));
        }

        return decoded;
    }

    // Leaves the differences and says so, or leaves the values where float16 would tell those better: each one of a spread, all together of a mean.
    private static bool Subtract(Span<float> values, float[] origin, bool spread)
    {
        var (differences, squares, drowned) = (0.0, 0.0, false);
        for (var i = 0; i < values.Length; i++)
        {
            var difference = values[i] - origin[i % origin.Length];
            differences += (double)difference * difference;
            squares += (double)values[i] * values[i];
            drowned |= Math.Abs(difference) > Math.Abs(values[i]);
        }

        if (spread ? drowned : differences > squares)
        {
            return false;
        }

        for (var i = 0; i < values.Length; i++)
        {
            values[i] -= origin[i % origin.Length];
        }

        return true;
    }

    // The power of two that brings the values into the range of float16.
    private static int Exponent(ReadOnlySpan<float> values)
    {
        var largest = values.IsEmpty ? 0 : TensorPrimitives.MaxMagnitude(values);
        return largest == 0 ? 0 : float.ILogB(largest) - LargestExponent;
    }

    // High bytes first: sign and exponent repeat, and compress well apart from the noise of the low bytes.
    private static void Append(MemoryStream halves, float[] values, int exponent)
    {
        var planes = new byte[2 * values.Length];
        Span<byte> half = stackalloc byte[2];
        for (var i = 0; i < values.Length; i++)
        {
            BinaryPrimitives.WriteHalfBigEndian(half, (Half)MathF.ScaleB(values[i], -exponent));
            (planes[i], planes[values.Length + i]) = (half[0], half[1]);
        }

        halves.Write(planes);
    }

    private static byte[] Compress(byte[] bytes)
    {
        var compressed = new byte[BrotliEncoder.GetMaxCompressedLength(bytes.Length)];
        return BrotliEncoder.TryCompress(bytes, compressed, out var written, quality: 2, window: 20)
            ? compressed[..written]
            : throw new InvalidOperationException(string.Create(CultureInfo.InvariantCulture, $"{bytes.Length} bytes did not compress into {compressed.Length}"));
    }

    private static byte[] Decompress(ReadOnlySpan<byte> compressed, int length)
    {
        var bytes = new byte[length];
        return BrotliDecoder.TryDecompress(compressed, bytes, out var written) && written == length
            ? bytes
            : throw new InvalidDataException($"the payload does not decompress to {length} bytes");
    }

    private sealed record EncodedTensor(string Name, int[] Shape, int Exponent, bool FromSource = true);

    /// <summary>What a tensor holds before anything was adapted, as far as the site's statistics tell.</summary>
    private sealed class SourceValues(IReadOnlyList<NormalizationSite> sites)
    {
        public static readonly float[] Nothing = [0];

        private readonly Dictionary<string, NormalizationSite> _sites = sites.ToDictionary(site => site.Name, StringComparer.Ordinal);

        public static bool IsSpread(string tensor) => tensor.EndsWith("_var", StringComparison.Ordinal) || tensor.EndsWith("_std", StringComparison.Ordinal);

        // A value a channel, which repeats along the tensor's other axes, or one zero.
        // The statistics of a virtual site are its calibration's, which may be another one when the snapshot is read.
        public float[] Of(string tensor, int[] shape)
        {
            var dot = tensor.LastIndexOf('.');
            return dot < 0 || !_sites.TryGetValue(tensor[..dot], out var site) || site.Kind == SiteKind.Virtual
                || shape.Length == 0 || shape[^1] != site.Channels || site.Channels == 0
                ? Nothing
                : tensor switch
                {
                    _ when tensor.EndsWith("_mean", StringComparison.Ordinal) => site.Mean,
                    _ when tensor.EndsWith("_var", StringComparison.Ordinal) => site.Variance,
                    _ when tensor.EndsWith("_std", StringComparison.Ordinal) => Array.ConvertAll(site.Variance, MathF.Sqrt),
                    _ => Nothing,
                };
        }
    }
}
