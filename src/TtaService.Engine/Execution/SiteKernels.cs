using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using TtaService.Engine.Onnx;

namespace TtaService.Engine.Execution;

/// <summary>The two passes over a frame's activations at a site: instance statistics, and center, scale, bias, residual and clamp.</summary>
/// <remarks>Channels-last memory ([pixels, C]) is the fast way: neighbouring channels share an instruction. Channels-first memory ([C, pixels]) is
/// read channel by channel. A frame's first pixel is subtracted before squares are summed, so that a large mean does not cancel the variance away.</remarks>
internal static unsafe class SiteKernels
{
    // Sums of a block stay in registers or L1 while its pixels stream by; blocks also keep float32 sums short, hence exact.
    private const int BlockFloats = 4096;

    /// <summary>Instance mean and biased variance of one channels-last frame [pixels, C].</summary>
    public static void StatisticsChannelsLast(float* x, int pixels, int channels, float* mean, float* variance)
    {
        var block = Math.Clamp(BlockFloats / channels, 8, 256);
        new Span<float>(mean, channels).Clear();
        new Span<float>(variance, channels).Clear();
        for (var first = 0; first < pixels; first += block)
        {
            var count = Math.Min(block, pixels - first);
            var rows = x + ((long)first * channels);
            var c = 0;
            if (Vector512.IsHardwareAccelerated)
            {
                c = Sum<Lanes512>(x, rows, count, channels, c, mean, variance);
            }

            if (Vector256.IsHardwareAccelerated)
            {
                c = Sum<Lanes256>(x, rows, count, channels, c, mean, variance);
            }

            c = Sum<Lanes128>(x, rows, count, channels, c, mean, variance);
            Sum<SingleLane>(x, rows, count, channels, c, mean, variance);
        }

        var inverse = 1f / pixels;
        for (var c = 0; c < channels; c++)
        {
            var d = mean[c] * inverse;
            variance[c] = MathF.Max(0, (variance[c] * inverse) - (d * d));
            mean[c] = x[c] + d;
        }
    }

    /// <summary>Instance mean and biased variance of one channels-first frame [C, pixels].</summary>
    public static void StatisticsChannelsFirst(float* x, int pixels, int channels, float* mean, float* variance)
    {
        for (var c = 0; c < channels; c++)
        {
            var row = x + ((long)c * pixels);
            var shift = row[0];
            double sum = 0, squares = 0;
            for (var first = 0; first < pixels; first += BlockFloats)
            {
                var (s, q) = SumRow(row + first, Math.Min(BlockFloats, pixels - first), shift);
                sum += s;
                squares += q;
            }

            var d = sum / pixels;
            mean[c] = (float)(shift + d);
            variance[c] = (float)Math.Max(0, (squares / pixels) - (d * d));
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

    /// <summary>Adds a block's sums of (x - first pixel) and its square to the running ones, for the channels from c on that whole lanes cover; returns the first channel left.</summary>
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
