using System.Buffers;
using System.Numerics.Tensors;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Frames;

/// <summary>What a frame shows, as far as it tells whether there is a picture in it.</summary>
/// <param name="Facts">What drift watches.</param>
/// <param name="Reason">Why it teaches nothing, whatever came before it.</param>
/// <param name="Cells">A digest of each of 8x8 parts that are not even (even ones are 0) of a picture that has two tones; empty of others.</param>
internal readonly record struct PictureFacts(FrameFacts Facts, NotLearnedReason Reason, uint[] Cells);

/// <summary>Finds frames without a picture: what a camera, a recorder or a decoder shows when it has nothing to show. Thread-safe.</summary>
/// <remarks>
/// Read from the model's input. The limits lie between what such frames have and what pictures have: see PictureGuardTests for the margins on Fashion-MNIST, clean and corrupted.
/// </remarks>
internal sealed class PictureGuard(FrameOptions options)
{
    private const int Levels = 256;
    private const int Grid = 8;
    private const int Tones = 16;

    // Levels of deviation. The faintest of 10,000 pictures at a twentieth of their contrast has 0.99.
    private const double EvenDeviation = 0.75;

    // Noise without a picture: some deviation between pixels, nearly none between the means of 8x8 parts; the same faintest picture has 0.6.
    private const double NoiseDeviation = 4;
    private const double NoiseBetweenParts = 0.4;

    // What one level of a picture is in values that were normalized as ImageNet's.
    private const double LevelOfValues = 0.0107;

    // Share of pixels that are black, or white. A shoe on black has 0.90, a page of text about as much white.
    private const double SaturatedShare = 0.98;
    private const int Black = 2;
    private const int White = 253;

    // Share of rows that repeat the one above though something is in them: 1 for bars, 0.85 with three bands of bars in 28 rows; trousers at most 0.74.
    private const double RepeatedRows = 0.8;

    // Share of pixels in the two most frequent of 16 tones: text on one colour.
    private const double TwoToneShare = 0.97;

    /// <summary>Looks at one frame of a block.</summary>
    /// <param name="block">The frames.</param>
    /// <param name="frame">Which one.</param>
    public PictureFacts Look(FrameBlock block, int frame)
    {
        var facts = FrameFacts.Of(block, frame);
        if (options.NotLearned == UnlearnedFrames.None)
        {
            return new PictureFacts(facts, NotLearnedReason.None, []);
        }

        var size = block.Channels * block.Height * block.Width;
        if (!block.Pixels.IsEmpty)
        {
            return Judge(facts, new Planes(block.Pixels.Span.Slice(frame * size, size), block.Channels, block.Height, block.Width), level: 1, saturates: true);
        }

        var values = block.Values.Span.Slice(frame * size, size);
        var (least, most) = (TensorPrimitives.Min(values), TensorPrimitives.Max(values));
        if (most == least)
        {
            return Found(facts, NotLearnedReason.Blank);
        }

        var pixels = ArrayPool<byte>.Shared.Rent(size);
        try
        {
            // To the levels of a picture between its own extremes; what is black and what is white is not known of values.
            var scale = (Levels - 1) / ((double)most - least);
            for (var i = 0; i < size; i++)
            {
                pixels[i] = (byte)((values[i] - (double)least) * scale);
            }

            return Judge(facts, new Planes(pixels.AsSpan(0, size), block.Channels, block.Height, block.Width), LevelOfValues * scale, saturates: false);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(pixels);
        }
    }

    /// <summary>Why a frame of a stream teaches nothing; None when it does.</summary>
    /// <param name="picture">The frame.</param>
    /// <param name="before">The frame before it in the stream; null when there is none.</param>
    public NotLearnedReason Judge(PictureFacts picture, PictureFacts? before)
    {
        if (picture.Reason != NotLearnedReason.None || before is not { } last)
        {
            return picture.Reason;
        }

        // A static scene is not frozen: its noise differs from frame to frame.
        if (picture.Facts.Digest == last.Facts.Digest)
        {
            return Taken(NotLearnedReason.Frozen);
        }

        return Stays(picture.Cells, last.Cells) ? Taken(NotLearnedReason.TestPattern) : NotLearnedReason.None;
    }

    private PictureFacts Judge(FrameFacts facts, Planes planes, double level, bool saturates)
    {
        Span<int> counts = stackalloc int[Levels];
        var (deviation, black, white, twoTone) = (0.0, 1.0, 1.0, true);
        var (least, most) = (Levels - 1, 0);
        for (var channel = 0; channel < planes.Channels; channel++)
        {
            Count(planes.Plane(channel), counts);
            (least, most) = (Math.Min(least, counts.IndexOfAnyExcept(0)), Math.Max(most, counts.LastIndexOfAnyExcept(0)));
            deviation = Math.Max(deviation, Deviation(counts));
            twoTone &= IsTwoTone(counts);
            black = Math.Min(black, Share(counts[..(Black + 1)], counts));
            white = Math.Min(white, Share(counts[White..], counts));
        }

        if (deviation < EvenDeviation * level || (deviation < NoiseDeviation * level && BetweenParts(planes) < NoiseBetweenParts * level))
        {
            return Found(facts, IsGrey(planes) || !saturates ? NotLearnedReason.Blank : NotLearnedReason.SingleColor);
        }

        if (saturates && Math.Max(black, white) >= SaturatedShare)
        {
            return Found(facts, NotLearnedReason.Saturated);
        }

        return RowsRepeat(planes, most - least) || ColumnsRepeat(planes, most - least)
            ? Found(facts, NotLearnedReason.TestPattern)
            : new PictureFacts(facts, NotLearnedReason.None, twoTone ? Cells(planes, most - least) : []);
    }

    private PictureFacts Found(FrameFacts facts, NotLearnedReason reason) => new(facts, Taken(reason), []);

    private NotLearnedReason Taken(NotLearnedReason reason) => options.NotLearned.HasFlag(reason switch
    {
        NotLearnedReason.Blank => UnlearnedFrames.Blank,
        NotLearnedReason.Frozen => UnlearnedFrames.Frozen,
        NotLearnedReason.Saturated => UnlearnedFrames.Saturated,
        NotLearnedReason.SingleColor => UnlearnedFrames.SingleColor,
        _ => UnlearnedFrames.TestPattern,
    })
        ? reason
        : NotLearnedReason.None;

    private static void Count(ReadOnlySpan<byte> pixels, Span<int> counts)
    {
        counts.Clear();
        foreach (var pixel in pixels)
        {
            counts[pixel]++;
        }
    }

    private static double Deviation(ReadOnlySpan<int> counts)
    {
        long pixels = 0, sum = 0, squares = 0;
        for (var value = 0; value < counts.Length; value++)
        {
            pixels += counts[value];
            sum += (long)value * counts[value];
            squares += (long)value * value * counts[value];
        }

        var mean = (double)sum / pixels;
        return Math.Sqrt(Math.Max(0, ((double)squares / pixels) - (mean * mean)));
    }

    private static double Share(ReadOnlySpan<int> part, ReadOnlySpan<int> counts) => (double)TensorPrimitives.Sum(part) / TensorPrimitives.Sum(counts);

    // Tones of the picture's own range, so that a faint picture has as many as a strong one.
    private static bool IsTwoTone(ReadOnlySpan<int> counts)
    {
        var (least, most) = (counts.IndexOfAnyExcept(0), counts.LastIndexOfAnyExcept(0));
        Span<int> tones = stackalloc int[Tones];
        tones.Clear();
        for (var value = least; value <= most; value++)
        {
            tones[(value - least) * Tones / (most - least + 1)] += counts[value];
        }

        tones.Sort();
        return Share(tones[^2..], counts) >= TwoToneShare;
    }

    private static bool IsGrey(Planes planes)
    {
        var (least, most) = (double.MaxValue, double.MinValue);
        for (var channel = 0; channel < planes.Channels; channel++)
        {
            long sum = 0;
            foreach (var pixel in planes.Plane(channel))
            {
                sum += pixel;
            }

            var mean = (double)sum / planes.Plane(channel).Length;
            (least, most) = (Math.Min(least, mean), Math.Max(most, mean));
        }

        // JPEG's colours are off by a level or two.
        return most - least < 4;
    }

    // The largest deviation between the means of the parts, over the channels.
    private static double BetweenParts(Planes planes)
    {
        var largest = 0.0;
        Span<double> means = stackalloc double[Grid * Grid];
        for (var channel = 0; channel < planes.Channels; channel++)
        {
            var parts = 0;
            for (var cell = 0; cell < Grid * Grid; cell++)
            {
                var part = planes.Part(cell);
                if (part.IsEmpty)
                {
                    continue;
                }

                long sum = 0;
                for (var y = part.Top; y < part.Bottom; y++)
                {
                    foreach (var pixel in planes.Row(channel, y)[part.Left..part.Right])
                    {
                        sum += pixel;
                    }
                }

                means[parts++] = (double)sum / ((part.Bottom - part.Top) * (part.Right - part.Left));
            }

            largest = Math.Max(largest, TensorPrimitives.StdDev<double>(means[..parts]));
        }

        return largest;
    }

    private static bool RowsRepeat(Planes planes, int range)
    {
        var (repeated, others) = (0, 0);
        for (var y = 1; y < planes.Height; y++)
        {
            var (alike, structured) = (true, false);
            for (var channel = 0; channel < planes.Channels && alike; channel++)
            {
                var row = planes.Row(channel, y);
                alike = Alike(row, planes.Row(channel, y - 1), range);
                structured |= alike && TensorPrimitives.Max(row) - TensorPrimitives.Min(row) > range / 10;
            }

            repeated += alike && structured ? 1 : 0;
            others += alike ? 0 : 1;
            if (others > (1 - RepeatedRows) * planes.Height)
            {
                return false;
            }
        }

        return repeated >= planes.Height / 4.0 && repeated >= RepeatedRows * (repeated + others);
    }

    private static bool ColumnsRepeat(Planes planes, int range)
    {
        var (repeated, others) = (0, 0);
        for (var x = 1; x < planes.Width; x++)
        {
            var (alike, least, most) = (true, byte.MaxValue, byte.MinValue);
            for (var channel = 0; channel < planes.Channels && alike; channel++)
            {
                var plane = planes.Plane(channel);
                for (var at = x; at < plane.Length && alike; at += planes.Width)
                {
                    alike = Math.Abs(plane[at] - plane[at - 1]) <= range / 50;
                    (least, most) = (Math.Min(least, plane[at]), Math.Max(most, plane[at]));
                }
            }

            repeated += alike && most - least > range / 10 ? 1 : 0;
            others += alike ? 0 : 1;
            if (others > (1 - RepeatedRows) * planes.Width)
            {
                return false;
            }
        }

        return repeated >= planes.Width / 4.0 && repeated >= RepeatedRows * (repeated + others);
    }

    // JPEG leaves a level or two between rows that were equal.
    private static bool Alike(ReadOnlySpan<byte> row, ReadOnlySpan<byte> other, int range)
    {
        for (var x = 0; x < row.Length; x++)
        {
            if (Math.Abs(row[x] - other[x]) > range / 50)
            {
                return false;
            }
        }

        return true;
    }

    private static uint[] Cells(Planes planes, int range)
    {
        var cells = new uint[Grid * Grid];
        for (var cell = 0; cell < cells.Length; cell++)
        {
            var part = planes.Part(cell);
            var (digest, least, most) = (2166136261u, byte.MaxValue, byte.MinValue);
            for (var channel = 0; channel < planes.Channels && !part.IsEmpty; channel++)
            {
                for (var y = part.Top; y < part.Bottom; y++)
                {
                    foreach (var pixel in planes.Row(channel, y)[part.Left..part.Right])
                    {
                        digest = (digest ^ pixel) * 16777619;
                        (least, most) = (Math.Min(least, pixel), Math.Max(most, pixel));
                    }
                }
            }

            cells[cell] = most - least > range / 10 ? digest | 1 : 0;
        }

        return cells;
    }

    // Most of what is in a picture of two tones stands where it stood: a slate with a clock.
    private static bool Stays(uint[] cells, uint[] before)
    {
        var (filled, same) = (0, 0);
        for (var i = 0; i < cells.Length && before.Length == cells.Length; i++)
        {
            filled += cells[i] != 0 || before[i] != 0 ? 1 : 0;
            same += cells[i] != 0 && cells[i] == before[i] ? 1 : 0;
        }

        return same > 0 && 2 * same >= filled;
    }

    private readonly ref struct Planes(ReadOnlySpan<byte> pixels, int channels, int height, int width)
    {
        private readonly ReadOnlySpan<byte> _pixels = pixels;

        public int Channels { get; } = channels;

        public int Height { get; } = height;

        public int Width { get; } = width;

        public ReadOnlySpan<byte> Plane(int channel) => _pixels.Slice(channel * Height * Width, Height * Width);

        public ReadOnlySpan<byte> Row(int channel, int y) => _pixels.Slice(((channel * Height) + y) * Width, Width);

        /// <summary>One of the 8x8 parts; small pictures have fewer.</summary>
        public Part Part(int cell)
        {
            var (row, column) = (cell / Grid, cell % Grid);
            return new Part(row * Height / Grid, (row + 1) * Height / Grid, column * Width / Grid, (column + 1) * Width / Grid);
        }
    }

    private readonly record struct Part(int Top, int Bottom, int Left, int Right)
    {
        public bool IsEmpty => Top == Bottom || Left == Right;
    }
}
