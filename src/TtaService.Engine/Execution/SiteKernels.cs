using System.Buffers;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Execution;

/// <summary>The two passes over a frame's activations at a site: instance statistics, and center, scale, bias, residual and clamp.</summary>
/// <remarks>Channels-last memory ([pixels, C]) is the fast way: neighbouring channels share an instruction. Channels-first memory ([C, pixels]) is
/// read channel by channel. Statistics are summed in float32 over blocks of bounded length, around the mean of what was summed before, and blocks are merged in double
/// precision (Chan et al. 1979):
/// what a block loses to cancellation is a share of what its distance from that mean adds to the variance, so that the error does not grow with the map, its mean or its
/// outliers.</remarks>
internal static unsafe class SiteKernels
{
    // Sums of these many values stay in L1 while they stream by.
    private const int BlockFloats = 4096;

    // Pixels whose sums are float32: short, hence exact to 1e-6.
    private const int BlockPixels = 256;

    // Of a channels-first row, whose sums run over several lanes.
    private const int RowFloats = 1024;

    // The first block has no mean to sum around: that of its first pixels, of which one may be an outlier.
    private const int FirstPixels = 8;

    /// <summary>Instance mean and biased variance of one channels-last frame [pixels, C].</summary>
    public static void StatisticsChannelsLast(float* x, int pixels, int channels, float* mean, float* variance)
    {
        if (pixels == 1)
        {
            new ReadOnlySpan<float>(x, channels).CopyTo(new Span<float>(mean, channels));
            new Span<float>(variance, channels).Clear();
            return;
        }

        var shifts = ArrayPool<float>.Shared.Rent(channels);
        var merged = pixels > BlockPixels ? ArrayPool<double>.Shared.Rent(2 * channels) : null;
        try
        {
            fixed (float* shift = shifts)
            fixed (double* sums = merged)
            {
                MeanChannelsLast(x, Math.Min(pixels, FirstPixels), channels, shift);
                for (var first = 0; first < pixels; first += BlockPixels)
                {
                    var count = Math.Min(BlockPixels, pixels - first);
                    SumBlock(x + ((long)first * channels), count, channels, shift, mean, variance);
                    if (sums is null)
                    {
                        Finish(count, channels, shift, mean, variance);
                    }
                    else
                    {
                        Merge(first, count, channels, shift, mean, variance, sums, sums + channels);
                    }
                }

                if (sums is not null)
                {
                    for (var c = 0; c < channels; c++)
                    {
                        mean[c] = (float)sums[c];
                        variance[c] = (float)Math.Max(0, sums[channels + c] / pixels);
                    }
                }
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(shifts);
            if (merged is not null)
            {
                ArrayPool<double>.Shared.Return(merged);
            }
        }
    }

    /// <summary>Instance mean and biased variance of one channels-first frame [C, pixels].</summary>
    public static void StatisticsChannelsFirst(float* x, int pixels, int channels, float* mean, float* variance)
    {
        for (var c = 0; c < channels; c++)
        {
            var row = x + ((long)c * pixels);
            double average = 0, squares = 0;
            var sample = Math.Min(pixels, FirstPixels);
            for (var i = 0; i < sample; i++)
            {
                average += (double)row[i] / sample;
            }

            for (var first = 0; first < pixels; first += RowFloats)
            {
                var count = Math.Min(RowFloats, pixels - first);
                var shift = (float)average;
                var (s, q) = SumRow(row + first, count, shift);
                var d = (double)s / count;
                var distance = shift + d - average;
                average = first == 0 ? shift + d : average + (distance * count / (first + count));
                squares += q - (s * d);
                squares += first == 0 ? 0 : distance * distance * first * count / (first + count);
            }

            mean[c] = (float)average;
            variance[c] = (float)Math.Max(0, squares / pixels);
        }
    }

    // Not folded into x * scale + shift: a channel with hardly any variance has a scale of hundreds, and the two products would cancel.

    /// <summary>y = clamp((x - mean) * scale + bias + residual) for one channels-last frame; y may be x, residual may be null.</summary>
    public static void ApplyChannelsLast(float* x, float* y, float* residual, int pixels, int channels, float* mean, float* scale, float* bias, Epilogue epilogue)
    {
        var c = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            c = Apply<Lanes512>(x, y, residual, pixels, channels, c, mean, scale, bias, epilogue);
        }

        if (Vector256.IsHardwareAccelerated)
        {
            c = Apply<Lanes256>(x, y, residual, pixels, channels, c, mean, scale, bias, epilogue);
        }

        c = Apply<Lanes128>(x, y, residual, pixels, channels, c, mean, scale, bias, epilogue);
        Apply<SingleLane>(x, y, residual, pixels, channels, c, mean, scale, bias, epilogue);
    }

    /// <summary>y = clamp((x - mean) * scale + bias + residual) for one channels-first frame; y may be x, residual may be null.</summary>
    public static void ApplyChannelsFirst(float* x, float* y, float* residual, int pixels, int channels, float* mean, float* scale, float* bias, Epilogue epilogue)
    {
        for (var c = 0; c < channels; c++)
        {
            var at = (long)c * pixels;
            var r = residual is null ? null : residual + at;
            var i = 0;
            if (Vector512.IsHardwareAccelerated)
            {
                i = ApplyRow<Lanes512>(x + at, y + at, r, pixels, i, mean[c], scale[c], bias[c], epilogue);
            }

            if (Vector256.IsHardwareAccelerated)
            {
                i = ApplyRow<Lanes256>(x + at, y + at, r, pixels, i, mean[c], scale[c], bias[c], epilogue);
            }

            i = ApplyRow<Lanes128>(x + at, y + at, r, pixels, i, mean[c], scale[c], bias[c], epilogue);
            ApplyRow<SingleLane>(x + at, y + at, r, pixels, i, mean[c], scale[c], bias[c], epilogue);
        }
    }

    /// <summary>Adds sums of (x - origin) and its square over rows of pixels to the running ones, for the channels from c on that whole lanes cover; returns the first
    /// channel left.</summary>
    internal static int Sum<T>(float* origin, float* rows, int count, int channels, int c, float* sums, float* squares)
        where T : struct, ILanes<T>
    {
        for (; c + (2 * T.Width) <= channels; c += 2 * T.Width)
        {
            var x = rows + c;
            var (shift0, shift1) = (T.Load(origin + c), T.Load(origin + c + T.Width));
            var (sum0, sum1) = (T.Load(sums + c), T.Load(sums + c + T.Width));
            var (square0, square1) = (T.Load(squares + c), T.Load(squares + c + T.Width));
            for (var i = 0; i < count; i++)
            {
                var d0 = T.Subtract(T.Load(x), shift0);
                var d1 = T.Subtract(T.Load(x + T.Width), shift1);
                sum0 = T.Add(sum0, d0);
                sum1 = T.Add(sum1, d1);
                square0 = T.MultiplyAdd(d0, d0, square0);
                square1 = T.MultiplyAdd(d1, d1, square1);
                x += channels;
            }

            sum0.Store(sums + c);
            sum1.Store(sums + c + T.Width);
            square0.Store(squares + c);
            square1.Store(squares + c + T.Width);
        }

        for (; c + T.Width <= channels; c += T.Width)
        {
            var x = rows + c;
            var shift = T.Load(origin + c);
            var sum = T.Load(sums + c);
            var square = T.Load(squares + c);
            for (var i = 0; i < count; i++)
            {
                var d = T.Subtract(T.Load(x), shift);
                sum = T.Add(sum, d);
                square = T.MultiplyAdd(d, d, square);
                x += channels;
            }

            sum.Store(sums + c);
            square.Store(squares + c);
        }

        return c;
    }

    /// <summary>The affine pass for the channels from c on that whole lanes cover; returns the first channel left.</summary>
    internal static int Apply<T>(float* x, float* y, float* residual, int pixels, int channels, int c, float* mean, float* scale, float* bias, Epilogue epilogue)
        where T : struct, ILanes<T>
    {
        var end = c + ((channels - c) / T.Width * T.Width);
        if (c == end)
        {
            return c;
        }

        var minimum = T.Broadcast(epilogue.Minimum);
        var maximum = T.Broadcast(epilogue.Maximum);
        var clamps = epilogue.Clamps;
        for (var pixel = 0; pixel < pixels; pixel++)
        {
            for (var i = c; i < end; i += T.Width)
            {
                var value = T.MultiplyAdd(T.Subtract(T.Load(x + i), T.Load(mean + i)), T.Load(scale + i), T.Load(bias + i));
                if (residual is not null)
                {
                    value = T.Add(value, T.Load(residual + i));
                }

                if (clamps)
                {
                    value = T.Clamp(value, minimum, maximum);
                }

                value.Store(y + i);
            }

            x += channels;
            y += channels;
            residual = residual is null ? null : residual + channels;
        }

        return end;
    }

    private static int ApplyRow<T>(float* x, float* y, float* residual, int pixels, int i, float mean, float scale, float bias, Epilogue epilogue)
        where T : struct, ILanes<T>
    {
        var minimum = T.Broadcast(epilogue.Minimum);
        var maximum = T.Broadcast(epilogue.Maximum);
        var m = T.Broadcast(mean);
        var s = T.Broadcast(scale);
        var b = T.Broadcast(bias);
        for (; i + T.Width <= pixels; i += T.Width)
        {
            var value = T.MultiplyAdd(T.Subtract(T.Load(x + i), m), s, b);
            if (residual is not null)
            {
                value = T.Add(value, T.Load(residual + i));
            }

            if (epilogue.Clamps)
            {
                value = T.Clamp(value, minimum, maximum);
            }

            value.Store(y + i);
        }

        return i;
    }

    // The sums of (x - shift) and its square over a block.
    private static void SumBlock(float* x, int pixels, int channels, float* shift, float* sums, float* squares)
    {
        new Span<float>(sums, channels).Clear();
        new Span<float>(squares, channels).Clear();
        var rows = Math.Clamp(BlockFloats / channels, 8, BlockPixels);
        for (var first = 0; first < pixels; first += rows)
        {
            var count = Math.Min(rows, pixels - first);
            var at = x + ((long)first * channels);
            var c = 0;
            if (Vector512.IsHardwareAccelerated)
            {
                c = Sum<Lanes512>(shift, at, count, channels, c, sums, squares);
            }

            if (Vector256.IsHardwareAccelerated)
            {
                c = Sum<Lanes256>(shift, at, count, channels, c, sums, squares);
            }

            c = Sum<Lanes128>(shift, at, count, channels, c, sums, squares);
            Sum<SingleLane>(shift, at, count, channels, c, sums, squares);
        }
    }

    private static void MeanChannelsLast(float* x, int pixels, int channels, float* mean)
    {
        var sum = new Span<float>(mean, channels);
        sum.Clear();
        for (var pixel = 0; pixel < pixels; pixel++)
        {
            TensorPrimitives.MultiplyAdd(new ReadOnlySpan<float>(x + ((long)pixel * channels), channels), 1f / pixels, sum, sum);
        }
    }

    // Sums of a single block become its mean and variance.
    private static void Finish(int pixels, int channels, float* shift, float* sums, float* squares)
    {
        var inverse = 1f / pixels;
        var c = 0;
        for (; c + Vector<float>.Count <= channels; c += Vector<float>.Count)
        {
            var d = Vector.Load(sums + c) * inverse;
            Vector.Max(Vector<float>.Zero, (Vector.Load(squares + c) * inverse) - (d * d)).Store(squares + c);
            (Vector.Load(shift + c) + d).Store(sums + c);
        }

        for (; c < channels; c++)
        {
            var d = sums[c] * inverse;
            squares[c] = MathF.Max(0, (squares[c] * inverse) - (d * d));
            sums[c] = shift[c] + d;
        }
    }

    // Chan's formula; the merged mean becomes the next block's shift.
    private static void Merge(int before, int count, int channels, float* shift, float* sums, float* squares, double* mean, double* squareSum)
    {
        var own = 1.0 / count;
        var share = (double)count / (before + count);
        var between = (double)before * share;
        var c = 0;
        for (; c + Vector<float>.Count <= channels; c += Vector<float>.Count)
        {
            Vector.Widen(Vector.Load(shift + c), out var shift0, out var shift1);
            Vector.Widen(Vector.Load(sums + c), out var sum0, out var sum1);
            Vector.Widen(Vector.Load(squares + c), out var square0, out var square1);
            Half(shift0, sum0, square0, mean + c, squareSum + c);
            Half(shift1, sum1, square1, mean + c + Vector<double>.Count, squareSum + c + Vector<double>.Count);
            Vector.Narrow(Vector.Load(mean + c), Vector.Load(mean + c + Vector<double>.Count)).Store(shift + c);
        }

        for (; c < channels; c++)
        {
            var d = sums[c] * own;
            var old = before == 0 ? 0 : mean[c];
            var distance = shift[c] + d - old;
            mean[c] = old + (distance * share);
            squareSum[c] = (before == 0 ? 0 : squareSum[c]) + squares[c] - (sums[c] * d) + (distance * distance * between);
            shift[c] = (float)mean[c];
        }

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        void Half(Vector<double> shifts, Vector<double> s, Vector<double> q, double* means, double* totals)
        {
            var d = s * own;
            var (old, total) = before == 0 ? (Vector<double>.Zero, Vector<double>.Zero) : (Vector.Load(means), Vector.Load(totals));
            var distance = shifts + d - old;
            (old + (distance * share)).Store(means);
            (total + q - (s * d) + (distance * distance * between)).Store(totals);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (float Sum, float Squares) SumRow(float* x, int count, float shift)
    {
        var i = 0;
        var (sum, squares) = (0f, 0f);
        if (count >= Vector256<float>.Count)
        {
            var (s, q) = (Vector256<float>.Zero, Vector256<float>.Zero);
            var center = Vector256.Create(shift);
            for (; i + Vector256<float>.Count <= count; i += Vector256<float>.Count)
            {
                var d = Vector256.Load(x + i) - center;
                s += d;
                q = Vector256.FusedMultiplyAdd(d, d, q);
            }

            (sum, squares) = (Vector256.Sum(s), Vector256.Sum(q));
        }

        for (; i < count; i++)
        {
            var d = x[i] - shift;
            sum += d;
            squares += d * d;
        }

        return (sum, squares);
    }
}
