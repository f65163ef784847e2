using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx.Operators;

/// <summary>NonMaxSuppression and RoiAlign.</summary>
internal static class Boxes
{
    // Denser samples than one a pixel of the largest maps change nothing that can be seen; boxes of a network may be of any size.
    private const int MostSamples = 1024;

    public static IEnumerable<Operator> All { get; } =
    [
        new("NonMaxSuppression", ["center_point_box"], node =>
        {
            var centred = node.Int("center_point_box", 0) != 0;
            return inputs =>
            {
                var (shape, classes) = (inputs[0]!.shape, inputs[1]!.shape[1]);
                var (boxes, scores) = (Corners(inputs[0]!.Singles(), centred), inputs[1]!.Singles());
                var most = Optional(inputs, 2)?.Longs()[0] ?? 0;
                var (overlap, least) = (Optional(inputs, 3)?.Singles()[0] ?? 0, Optional(inputs, 4)?.Singles()[0]);
                var chosen = new List<long>();
                for (var frame = 0L; frame < shape[0]; frame++)
                {
                    for (var c = 0L; c < classes; c++)
                    {
                        var own = scores.AsMemory(checked((int)(((frame * classes) + c) * shape[1])), (int)shape[1]);
                        foreach (var box in Kept(boxes.AsMemory(checked((int)(frame * shape[1] * 4)), (int)(shape[1] * 4)), own, most, overlap, least))
                        {
                            chosen.AddRange([frame, c, box]);
                        }
                    }
                }

                return [tensor([.. chosen], [chosen.Count / 3, 3])];
            };
        }),
        new("RoiAlign", ["coordinate_transformation_mode", "mode", "output_height", "output_width", "sampling_ratio", "spatial_scale"], RoiAlign),
    ];

    private static Tensor? Optional(Tensor?[] inputs, int index) => index < inputs.Length ? inputs[index] : null;

    // y1, x1, y2, x2 in order, whichever corners were given.
    private static float[] Corners(float[] boxes, bool centred)
    {
        for (var i = 0; i < boxes.Length; i += 4)
        {
            var (a, b, c, d) = (boxes[i], boxes[i + 1], boxes[i + 2], boxes[i + 3]);
            (boxes[i], boxes[i + 1], boxes[i + 2], boxes[i + 3]) = centred
                ? (b - (d / 2), a - (c / 2), b + (d / 2), a + (c / 2))
                : (Math.Min(a, c), Math.Min(b, d), Math.Max(a, c), Math.Max(b, d));
        }

        return boxes;
    }

    private static List<int> Kept(ReadOnlyMemory<float> boxes, ReadOnlyMemory<float> scores, long most, float overlap, float? least)
    {
        var kept = new List<int>();
        if (most <= 0)
        {
            return kept;
        }

        var candidates = Enumerable.Range(0, scores.Length).Where(box => least is null || scores.Span[box] > least).OrderByDescending(box => scores.Span[box]);
        foreach (var box in candidates)
        {
            if (kept.TrueForAll(other => Overlap(boxes.Span[(4 * box)..], boxes.Span[(4 * other)..]) <= overlap))
            {
                kept.Add(box);
                if (kept.Count == most)
                {
                    break;
                }
            }
        }

        return kept;
    }

    private static float Overlap(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        var (height, width) = (Math.Min(a[2], b[2]) - Math.Max(a[0], b[0]), Math.Min(a[3], b[3]) - Math.Max(a[1], b[1]));
        if (!(height > 0 && width > 0))
        {
            return 0;
        }

        var common = height * width;
        return common / (((a[2] - a[0]) * (a[3] - a[1])) + ((b[2] - b[0]) * (b[3] - b[1])) - common);
    }

    private static Kernel RoiAlign(Node node)
    {
        var (height, width, ratio, scale) = (
            (int)node.Int("output_height", 1),
            (int)node.Int("output_width", 1),
            node.Int("sampling_ratio", 0),
            (double)node.Float("spatial_scale", 1));
        var shifted = node.Text("coordinate_transformation_mode", node.Opset < 16 ? "output_half_pixel" : "half_pixel") == "half_pixel";
        if (height is < 1 or > MostSamples || width is < 1 or > MostSamples)
        {
            node.Refuse($"makes {height} x {width} values of a box; 1 to {MostSamples} are supported");
        }

        if (node.Text("mode", "avg") != "avg")
        {
            node.Refuse("mode 'max' is not supported; use 'avg', which detectors are trained with");
        }

        return inputs =>
        {
            var x = inputs[0]!;
            var (rois, frames) = (inputs[1]!.Singles(), inputs[2]!.Longs());
            var pooled = new Tensor[frames.Length];
            for (var i = 0; i < frames.Length; i++)
            {
                var (across, down) = (Axis(rois[4 * i], rois[(4 * i) + 2], x.shape[3], width), Axis(rois[(4 * i) + 1], rois[(4 * i) + 3], x.shape[2], height));
                using var map = x.select(0, frames[i]).narrow(1, down.First, down.Extent).narrow(2, across.First, across.Extent);
                using var rows = tensor(down.Weights, [height, down.Extent]).to(x.dtype, x.device);
                using var columns = tensor(across.Weights, [width, across.Extent]).to(x.dtype, x.device);
                using var right = columns.t();
                using var narrow = MatrixProduct.Of(map, right);
                pooled[i] = MatrixProduct.Of(rows, narrow);
            }

            return [frames.Length == 0 ? zeros([0, x.shape[1], height, width], x.dtype, x.device) : stack(pooled)];
        };

        // Bilinear samples and their mean are weights of the axis, of which only the box's part is read.
        (long First, long Extent, float[] Weights) Axis(double from, double to, long extent, int bins)
        {
            var start = (from * scale) - (shifted ? 0.5 : 0);
            var size = (to * scale) - (shifted ? 0.5 : 0) - start;
            size = shifted ? size : Math.Max(1, size);
            var samples = ratio > 0 ? ratio : (long)Math.Ceiling(size / bins);
            samples = double.IsFinite(size) ? Math.Clamp(samples, ratio > 0 ? 1 : 0, MostSamples) : 0;
            var (taps, first, last) = (new List<(int Bin, long At, double Weight)>(), extent - 1, 0L);
            for (var bin = 0; bin < bins; bin++)
            {
                for (var sample = 0; sample < samples; sample++)
                {
                    var position = start + (size / bins * (bin + ((sample + 0.5) / samples)));
                    if (!(position >= -1 && position <= extent))
                    {
                        continue;
                    }

                    position = Math.Clamp(position, 0, extent - 1);
                    var low = (long)position;
                    var high = Math.Min(low + 1, extent - 1);
                    taps.Add((bin, low, (1 - (position - low)) / samples));
                    taps.Add((bin, high, (position - low) / samples));
                    (first, last) = (Math.Min(first, low), Math.Max(last, high));
                }
            }

            first = Math.Min(first, last);
            var weights = new float[bins * (last - first + 1)];
            foreach (var (bin, at, weight) in taps)
            {
                weights[(bin * (last - first + 1)) + at - first] += (float)weight;
            }

            return (first, last - first + 1, weights);
        }
    }
}
