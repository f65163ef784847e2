using System.Buffers;
using System.Numerics;
using System.Runtime.Intrinsics;

namespace TtaService.Serving.Frames;

/// <summary>Resizes 8-bit images exactly as Pillow does (Resample.c): antialiased, fixed-point weights of 22 bits, columns first, then rows, rounded to 8 bits in
/// between.</summary>
/// <remarks>Only the asked part of the resized image is computed, so a crop costs what it shows.</remarks>
internal static class PillowResampler
{
    private const int PrecisionBits = 32 - 8 - 2;

    /// <summary>Resizes an image and returns a part of the result.</summary>
    /// <param name="source">Packed rows of <paramref name="channels"/> bytes a pixel.</param>
    /// <param name="width">Of the source.</param>
    /// <param name="height">Of the source.</param>
    /// <param name="channels">1 or 4.</param>
    /// <param name="resizedWidth">Of the whole resized image.</param>
    /// <param name="resizedHeight">Of the whole resized image.</param>
    /// <param name="part">The part that is wanted, within the resized image.</param>
    /// <param name="interpolation">The filter.</param>
    /// <param name="target">Packed rows of the part.</param>
    public static void Resize(
        ReadOnlySpan<byte> source,
        int width,
        int height,
        int channels,
        int resizedWidth,
        int resizedHeight,
        Part part,
        Interpolation interpolation,
        Span<byte> target)
    {
        if (interpolation == Interpolation.Nearest)
        {
            ResizeNearest(source, width, height, channels, resizedWidth, resizedHeight, part, target);
            return;
        }

        var columns = resizedWidth == width ? null : new Weights(width, resizedWidth, part.Left, part.Width, interpolation);
        var rows = resizedHeight == height ? null : new Weights(height, resizedHeight, part.Top, part.Height, interpolation);
        var (firstRow, lastRow) = rows is null ? (part.Top, part.Top + part.Height) : (rows.First, rows.Last);
        var rowBytes = part.Width * channels;
        var rented = ArrayPool<byte>.Shared.Rent((lastRow - firstRow) * rowBytes);
        try
        {
            var between = rented.AsSpan(0, (lastRow - firstRow) * rowBytes);
            for (var row = firstRow; row < lastRow; row++)
            {
                var from = source.Slice(row * width * channels, width * channels);
                var to = between.Slice((row - firstRow) * rowBytes, rowBytes);
                if (columns is null)
                {
                    from.Slice(part.Left * channels, rowBytes).CopyTo(to);
                }
                else if (channels == 4)
                {
                    ResizeRow4(from, columns, to);
                }
                else
                {
                    ResizeRow1(from, columns, to);
                }
            }

            if (rows is null)
            {
                between.CopyTo(target);
                return;
            }

            ResizeColumns(between, firstRow, rowBytes, rows, target);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    private static void ResizeRow4(ReadOnlySpan<byte> from, Weights weights, Span<byte> to)
    {
        for (var x = 0; x < weights.Count; x++)
        {
            var start = weights.Start(x);
            var taps = weights.Taps(x);
            var sum = Vector128.Create(1 << (PrecisionBits - 1));
            for (var t = 0; t < taps.Length; t++)
            {
                var at = (start + t) * 4;
                var pixel = Vector128.CreateScalarUnsafe(BitConverter.ToUInt32(from.Slice(at, 4))).AsByte();
                sum += Vector128.WidenLower(Vector128.WidenLower(pixel)).AsInt32() * taps[t];
            }

            var clamped = Vector128.Min(Vector128.Max(sum >> PrecisionBits, Vector128<int>.Zero), Vector128.Create(255));
            for (var c = 0; c < 4; c++)
            {
                to[(x * 4) + c] = (byte)clamped[c];
            }
        }
    }

    private static void ResizeRow1(ReadOnlySpan<byte> from, Weights weights, Span<byte> to)
    {
        for (var x = 0; x < weights.Count; x++)
        {
            var start = weights.Start(x);
            var taps = weights.Taps(x);
            var sum = 1 << (PrecisionBits - 1);
            for (var t = 0; t < taps.Length; t++)
            {
                sum += from[start + t] * taps[t];
            }

            to[x] = (byte)Math.Clamp(sum >> PrecisionBits, 0, 255);
        }
    }

    private static void ResizeColumns(ReadOnlySpan<byte> between, int firstRow, int rowBytes, Weights rows, Span<byte> target)
    {
        var rented = ArrayPool<int>.Shared.Rent(rowBytes);
        try
        {
            var sums = rented.AsSpan(0, rowBytes);
            for (var y = 0; y < rows.Count; y++)
            {
                var start = rows.Start(y);
                var taps = rows.Taps(y);
                sums.Fill(1 << (PrecisionBits - 1));
                for (var t = 0; t < taps.Length; t++)
                {
                    AddScaled(between.Slice((start - firstRow + t) * rowBytes, rowBytes), taps[t], sums);
                }

                var to = target.Slice(y * rowBytes, rowBytes);
                for (var i = 0; i < rowBytes; i++)
                {
                    to[i] = (byte)Math.Clamp(sums[i] >> PrecisionBits, 0, 255);
                }
            }
        }
        finally
        {
            ArrayPool<int>.Shared.Return(rented);
        }
    }

    private static void AddScaled(ReadOnlySpan<byte> row, int weight, Span<int> sums)
    {
        var i = 0;
        for (; i <= row.Length - Vector<byte>.Count; i += Vector<byte>.Count)
        {
            Vector.Widen(new Vector<byte>(row[i..]), out var low, out var high);
            Vector.Widen(low, out var a, out var b);
            Vector.Widen(high, out var c, out var d);
            var lanes = Vector<int>.Count;
            (new Vector<int>(sums[i..]) + (Vector.AsVectorInt32(a) * weight)).CopyTo(sums[i..]);
            (new Vector<int>(sums[(i + lanes)..]) + (Vector.AsVectorInt32(b) * weight)).CopyTo(sums[(i + lanes)..]);
            (new Vector<int>(sums[(i + (2 * lanes))..]) + (Vector.AsVectorInt32(c) * weight)).CopyTo(sums[(i + (2 * lanes))..]);
            (new Vector<int>(sums[(i + (3 * lanes))..]) + (Vector.AsVectorInt32(d) * weight)).CopyTo(sums[(i + (3 * lanes))..]);
        }

        for (; i < row.Length; i++)
        {
            sums[i] += row[i] * weight;
        }
    }

    private static void ResizeNearest(ReadOnlySpan<byte> source, int width, int height, int channels, int resizedWidth, int resizedHeight, Part part, Span<byte> target)
    {
        var columns = NearestPositions(width, resizedWidth, part.Left, part.Width);
        var rows = NearestPositions(height, resizedHeight, part.Top, part.Height);
        for (var y = 0; y < part.Height; y++)
        {
            for (var x = 0; x < part.Width; x++)
            {
                source.Slice(((rows[y] * width) + columns[x]) * channels, channels).CopyTo(target[(((y * part.Width) + x) * channels)..]);
            }
        }
    }

    // Pillow adds the step up instead of multiplying, and so do we: the roundings differ.
    private static int[] NearestPositions(int input, int output, int first, int count)
    {
        var step = (double)input / output;
        var position = step * 0.5;
        for (var i = 0; i < first; i++)
        {
            position += step;
        }

        var positions = new int[count];
        for (var i = 0; i < count; i++, position += step)
        {
            positions[i] = Math.Min((int)position, input - 1);
        }

        return positions;
    }

    /// <summary>A part of an image in pixels.</summary>
    internal readonly record struct Part(int Left, int Top, int Width, int Height);

    /// <summary>The taps of every output position of an axis.</summary>
    private sealed class Weights
    {
        private readonly int[] _starts;
        private readonly int[][] _taps;

        public Weights(int input, int output, int first, int count, Interpolation interpolation)
        {
            var scale = (double)input / output;
            var filterScale = Math.Max(scale, 1);
            var inverse = 1 / filterScale;
            var support = Support(interpolation) * filterScale;
            _starts = new int[count];
            _taps = new int[count][];
            var weights = new double[(2 * (int)Math.Ceiling(support)) + 1];
            for (var i = 0; i < count; i++)
            {
                var center = (first + i + 0.5) * scale;
                var start = Math.Max((int)(center - support + 0.5), 0);
                var taps = Math.Min((int)(center + support + 0.5), input) - start;
                var total = 0.0;
                for (var t = 0; t < taps; t++)
                {
                    weights[t] = Weight(interpolation, (t + start - center + 0.5) * inverse);
                    total += weights[t];
                }

                _starts[i] = start;
                _taps[i] = new int[taps];
                for (var t = 0; t < taps; t++)
                {
                    var weight = (total != 0 ? weights[t] / total : weights[t]) * (1 << PrecisionBits);
                    _taps[i][t] = (int)(weight < 0 ? weight - 0.5 : weight + 0.5);
                }
            }

            First = _starts[0];
            Last = _starts[^1] + _taps[^1].Length;
        }

        public int Count => _starts.Length;

        /// <summary>First source position that is read.</summary>
        public int First { get; }

        /// <summary>One past the last source position that is read.</summary>
        public int Last { get; }

        public int Start(int output) => _starts[output];

        public ReadOnlySpan<int> Taps(int output) => _taps[output];

        private static double Support(Interpolation interpolation) => interpolation switch
        {
            Interpolation.Box => 0.5,
            Interpolation.Bilinear => 1,
            Interpolation.Bicubic => 2,
            _ => 3,
        };

        private static double Weight(Interpolation interpolation, double x)
        {
            const double A = -0.5;
            var d = Math.Abs(x);
            return interpolation switch
            {
                Interpolation.Box => x is > -0.5 and <= 0.5 ? 1 : 0,
                Interpolation.Bilinear => Math.Max(0, 1 - d),
                Interpolation.Bicubic when d < 1 => ((((A + 2) * d) - (A + 3)) * d * d) + 1,
                Interpolation.Bicubic => d < 2 ? (((((d - 5) * d) + 8) * d) - 4) * A : 0,
                _ => x is >= -3 and < 3 ? Sinc(x) * Sinc(x / 3) : 0,
            };
        }

        private static double Sinc(double x) => x == 0 ? 1 : Math.Sin(x * Math.PI) / (x * Math.PI);
    }
}
