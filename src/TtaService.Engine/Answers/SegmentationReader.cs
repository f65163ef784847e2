using System.Buffers;
using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Answers;

/// <summary>A class for each pixel of a frame.</summary>
/// <param name="Width">Of the frame.</param>
/// <param name="Height">Of the frame.</param>
/// <param name="Classes">Row by row; <see cref="SegmentationReader.Outside"/> where the model did not see the frame.</param>
/// <param name="Shares">Of the pixels that it saw, by class; they sum to 1.</param>
public sealed record ClassMap(int Width, int Height, byte[] Classes, float[] Shares);

/// <summary>Reads a segmentation model's outputs. Thread-safe.</summary>
/// <remarks>The class of a pixel is that of the largest of the classes' values, interpolated bilinearly at its centre (torch's interpolate, align_corners=False).
/// Where the four values around it name one class, so does whatever lies between them, and nothing is interpolated: the cost of a frame is that of its borders.</remarks>
public sealed class SegmentationReader(ModelAnswer answer)
{
    /// <summary>The class of pixels that the model did not see.</summary>
    public const byte Outside = 255;

    /// <summary>Most classes of a map.</summary>
    public const int MostClasses = 255;

    // A grid of 32x32.
    private const int SampledSide = 32;

    private readonly ModelOutput _output =
        answer.Find(OutputKind.SegmentationLogits) ?? answer.Find(OutputKind.SegmentationProbabilities) ?? answer.Find(OutputKind.ClassMap)!;

    /// <summary>The map of a frame at its own size.</summary>
    /// <param name="outputs">Of the step, [frames, ...] each.</param>
    /// <param name="frame">Which of its frames.</param>
    /// <param name="placement">How the frame lies in the input.</param>
    /// <param name="width">Of the model's input.</param>
    /// <param name="height">Of the model's input.</param>
    public ClassMap Read(IReadOnlyList<OutputTensor> outputs, int frame, FramePlacement placement, int width, int height)
    {
        var grid = GridOf(outputs[_output.Index], frame);
        var known = ArrayPool<byte>.Shared.Rent(grid.Height * grid.Width);
        try
        {
            Largest(grid, known);
            var columns = Axis.Of(placement.Width, placement.ScaleX, placement.OffsetX, width, grid.Width);
            var rows = Axis.Of(placement.Height, placement.ScaleY, placement.OffsetY, height, grid.Height);
            var classes = new byte[placement.Width * placement.Height];
            var counts = new long[Math.Max(grid.Labels, answer.Classes ?? 0)];
            for (var y = 0; y < placement.Height; y++)
            {
                Row(grid, known, rows[y], columns, classes.AsSpan(y * placement.Width, placement.Width), counts);
            }

            var seen = Math.Max(1L, counts.Sum());
            return new ClassMap(placement.Width, placement.Height, classes, Array.ConvertAll(counts, count => (float)((double)count / seen)));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(known);
        }
    }

    /// <summary>The classes' shares and the mean entropy (over that of no idea at all, 0 to 1) of some thousand places of a frame;
    /// a map that holds no more than classes has no entropy.</summary>
    public (float[] Shares, double? Entropy) Sample(IReadOnlyList<OutputTensor> outputs, int frame)
    {
        var grid = GridOf(outputs[_output.Index], frame);
        var shares = new float[Math.Max(grid.Labels, answer.Classes ?? 0)];
        var (values, probabilities) = (new float[grid.Channels], new float[grid.Channels]);
        var (places, entropy) = (0, 0.0);
        for (var i = 0; i < SampledSide; i++)
        {
            for (var j = 0; j < SampledSide; j++)
            {
                var at = (((2 * i) + 1) * grid.Height / (2 * SampledSide) * grid.Width) + (((2 * j) + 1) * grid.Width / (2 * SampledSide));
                for (var c = 0; c < values.Length; c++)
                {
                    values[c] = grid.Values[(c * grid.Cells) + at];
                }

                shares[grid.Best(values)]++;
                places++;
                if (!grid.IsMap)
                {
                    entropy += Entropy(values, probabilities);
                }
            }
        }

        TensorPrimitives.Divide(shares, places, shares);
        return (shares, grid.IsMap ? null : entropy / places);
    }

    private double Entropy(float[] values, float[] probabilities)
    {
        var isLogits = _output.Kind == OutputKind.SegmentationLogits;
        var kind = values.Length > 1
            ? isLogits ? OutputKind.Logits : OutputKind.Probabilities
            : isLogits ? OutputKind.MultiLabelLogits : OutputKind.MultiLabelProbabilities;
        ModelOutput.ToProbabilities(kind, values, probabilities);
        return ModelOutput.Entropy(kind, probabilities);
    }

    private Grid GridOf(OutputTensor output, int frame)
    {
        var (height, width) = (output.Shape[^2], output.Shape[^1]);
        var values = output.OfFrame(frame).Span;
        return new Grid(
            values,
            values.Length / (height * width),
            height,
            width,
            _output.Kind == OutputKind.ClassMap,
            _output.Kind == OutputKind.SegmentationLogits ? 0 : 0.5f);
    }

    private static void Largest(in Grid grid, Span<byte> classes)
    {
        if (grid.IsMap || grid.Channels == 1)
        {
            for (var i = 0; i < grid.Cells; i++)
            {
                classes[i] = grid.Best(grid.Values.Slice(i, 1));
            }

            return;
        }

        var best = new float[grid.Cells];
        grid.Values[..grid.Cells].CopyTo(best);
        classes[..grid.Cells].Clear();
        for (var c = 1; c < grid.Channels; c++)
        {
            var values = grid.Values.Slice(c * grid.Cells, grid.Cells);
            for (var i = 0; i < values.Length; i++)
            {
                if (values[i] > best[i])
                {
                    (best[i], classes[i]) = (values[i], (byte)c);
                }
            }
        }
    }

    private static void Row(in Grid grid, ReadOnlySpan<byte> known, Axis row, Axis[] columns, Span<byte> classes, long[] counts)
    {
        Span<float> values = stackalloc float[MostClasses];
        values = values[..Math.Min(MostClasses, grid.Channels)];
        for (var x = 0; x < classes.Length; x++)
        {
            var column = columns[x];
            if (!row.IsSeen || !column.IsSeen)
            {
                classes[x] = Outside;
                continue;
            }

            int upper = row.First * grid.Width, lower = row.Second * grid.Width;
            var label = known[upper + column.First];
            if (grid.IsMap)
            {
                label = known[((row.Weight < 0.5f ? row.First : row.Second) * grid.Width) + (column.Weight < 0.5f ? column.First : column.Second)];
            }
            else if (known[upper + column.Second] != label || known[lower + column.First] != label || known[lower + column.Second] != label)
            {
                for (var c = 0; c < values.Length; c++)
                {
                    var plane = grid.Values.Slice(c * grid.Cells, grid.Cells);
                    var above = Between(plane[upper + column.First], plane[upper + column.Second], column.Weight);
                    values[c] = Between(above, Between(plane[lower + column.First], plane[lower + column.Second], column.Weight), row.Weight);
                }

                label = grid.Best(values);
            }

            classes[x] = label;
            counts[label]++;
        }
    }

    private static float Between(float first, float second, float weight) => ((1 - weight) * first) + (weight * second);

    /// <summary>A frame's values, [C,h,w].</summary>
    private readonly ref struct Grid(ReadOnlySpan<float> values, int channels, int height, int width, bool isMap, float threshold)
    {
        public ReadOnlySpan<float> Values { get; } = values;

        public int Channels => channels;

        public int Height => height;

        public int Width => width;

        public int Cells => height * width;

        /// <summary>It holds classes.</summary>
        public bool IsMap => isMap;

        /// <summary>Classes that it can name; of one value a pixel it is the thing and its background.</summary>
        public int Labels => isMap ? MostClasses : Math.Max(2, channels);

        public byte Best(ReadOnlySpan<float> values) =>
            isMap ? (byte)Math.Clamp(MathF.Round(values[0]), 0, MostClasses - 1)
            : values.Length == 1 ? (byte)(values[0] > threshold ? 1 : 0)
            : (byte)TensorPrimitives.IndexOfMax(values);
    }

    /// <summary>Between which two entries of the grid a pixel's centre lies.</summary>
    private readonly record struct Axis(bool IsSeen, int First, int Second, float Weight)
    {
        public static Axis[] Of(int pixels, double scale, double offset, int input, int grid)
        {
            var axis = new Axis[pixels];
            for (var i = 0; i < pixels; i++)
            {
                var at = ((i + 0.5) * scale) + offset;
                var place = Math.Clamp((at * grid / input) - 0.5, 0, grid - 1);
                var first = (int)place;
                axis[i] = new Axis(at >= 0 && at <= input, first, Math.Min(first + 1, grid - 1), (float)(place - first));
            }

            return axis;
        }
    }
}
