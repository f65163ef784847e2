using System.Text.Json.Nodes;
using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Finds out, by running it, what a model does with several frames in a pass: each must be answered as it is alone. Graphs with a batch size baked in mix frames
/// without an error.</summary>
/// <remarks>Made-up frames a and b run as [a], [b], [a,b], [b,a] and [a,b,a], folded, observed and adapted. Where an answer moves by more than 1e-4 of the output's
/// scale, a pass gets one frame. A graph that takes smaller frames, too, shows that on those, which cost little; of its own size then only [a], [b] and [a,b]
/// run. Of one that takes large frames only, fewer passes run.</remarks>
internal sealed class PassProbe
{
    private const double Tolerance = 1e-4;

    // TF32 and bfloat16 round by the layout of a pass; frames that mix move by more.
    private const double RoughTolerance = 5e-2;

    // An 8K picture has a hundred million values.
    private const long MostFrameValues = 1L << 28;

    // Of more pixels than these a trial takes a part that is cheaper; a frame that most networks still reduce to something.
    private const int ManyPixels = 160 * 160;
    private const int LeastSide = 64;
    private const int SideStep = 32;
    private static readonly int[] Reductions = [4, 2];

    // Near-ties (in a top-k, in an arg-max) may turn by rounding alone; other frames have others.
    private const int Attempts = 2;

    private readonly AdaptiveModel _model;
    private readonly ModelGraph _graph;
    private readonly AdaptiveModelOptions _options;
    private readonly double _tolerance;
    private readonly int _declared;

    public PassProbe(AdaptiveModel model, ModelGraph graph, AdaptiveModelOptions options)
    {
        (_model, _graph, _options) = (model, graph, options);
        _tolerance = options.Device == "cpu" && options.Precision == Precision.Fp32 ? Tolerance : RoughTolerance;
        _declared = (int)Math.Clamp(model.InputShape[0], 0, int.MaxValue);
    }

    /// <summary>The plan, and what of it a user should know.</summary>
    /// <exception cref="UnusableException">No frame can be run, or none alone.</exception>
    public (PassPlan Plan, IReadOnlyList<string> Notices) Find()
    {
        var (plan, size) = (PassPlan.AsDeclared(_graph), default((int, int, int)?));
        Exception? failure = null;
        _graph.IsTrial = IsOpen;
        foreach (var candidate in Sizes())
        {
            try
            {
                plan = FindSmall(candidate) ?? Find(candidate);
                size = candidate;
                break;
            }
            catch (Exception e) when (e is not (OutOfMemoryException or UnusableException))
            {
                // The first size is the one that is most likely meant.
                failure ??= e;
            }
        }

        _graph.IsTrial = false;
        if (size is null)
        {
            var why = failure is null ? "no size of its frames is known" : failure.Message.Split('\n')[0];
            if (IsFixed || failure is PassException)
            {
                throw new UnusableException($"the model can't run a frame of its own size: {why}");
            }

            plan = PassPlan.OneByOne(_graph, $"its frames' size is open and none of the usual ones runs ({why})");
        }

        return (plan, [.. Describe(plan)]);
    }

    private static bool IsLarge((int Channels, int Height, int Width) size) => size.Height * size.Width > ManyPixels;

    private bool IsOpen => !IsFixed && _options.FrameSize is null;

    private bool IsFixed => _model.InputShape.Skip(2).All(extent => extent > 0);

    private IEnumerable<(int Channels, int Height, int Width)> Sizes()
    {
        var shape = _model.InputShape;
        var channels = shape[1] > 0 ? shape[1] : _model.InputNormalization.Mean.Length;
        (long Height, long Width)[] open = _options.FrameSize is { } given ? [given] : [(224, 224), (256, 256), (320, 320), (640, 640), (64, 64), (32, 32)];
        foreach (var (height, width) in IsFixed ? [(0, 0)] : open)
        {
            var (h, w) = (shape[2] > 0 ? shape[2] : height, shape[3] > 0 ? shape[3] : width);
            var values = (double)Math.Max(1, _declared) * channels * _model.ClipFrames * h * w;
            if (values > MostFrameValues)
            {
                throw new UnusableException($"its input [{string.Join(',', shape)}] has {values:0.##e+0} values; {MostFrameValues:N0} are the limit of a pass");
            }

            yield return ((int)channels * _model.ClipFrames, (int)h, (int)w);
        }
    }

    // What smaller frames show, if those of this size agree; null where none run, frames are mixed, or this size's don't agree.
    private PassPlan? FindSmall((int Channels, int Height, int Width) size)
    {
        if (!IsLarge(size))
        {
            return null;
        }

        foreach (var reduction in Reductions)
        {
            _graph.IsTrial = true;
            try
            {
                var plan = Find((size.Channels, Reduced(size.Height, reduction), Reduced(size.Width, reduction)));
                _graph.IsTrial = IsOpen;
                return plan.FramesPerPass == 1 || !HoldsFor(plan, size) ? null : plan;
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                // Weights or shapes that know the size; the next is nearer to it.
            }
            finally
            {
                _graph.IsTrial = IsOpen;
            }
        }

        return null;

        static int Reduced(int side, int reduction) => side <= LeastSide ? side : Math.Max(LeastSide, side / reduction / SideStep * SideStep);
    }

    private bool HoldsFor(PassPlan plan, (int Channels, int Height, int Width) size)
    {
        using var scope = NewDisposeScope();
        var (a, b, unit) = (MadeUpFrame(size, 0), MadeUpFrame(size, 1), Math.Max(1, _declared));
        var alone = new Pair(Run(Repeat(a, unit), null), Run(Repeat(b, unit), null), unit);
        int[] together = [.. Enumerable.Range(0, Math.Max(2, plan.FilledTo)).Select(i => i % 2)];
        return Together(alone, a, b, [together]).Layouts is { } layouts && layouts.AsSpan().SequenceEqual(plan.Outputs);
    }

    private PassPlan Find((int Channels, int Height, int Width) size)
    {
        // The batch that the graph was exported with, or one frame, defines what is right.
        var unit = Math.Max(1, _declared);
        var (why, alone) = (string.Empty, default(Pair));
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            using var scope = NewDisposeScope();
            var (a, b) = (MadeUpFrame(size, 2 * attempt), MadeUpFrame(size, (2 * attempt) + 1));
            // First, since it is the sites that say best what does not fit.
            var rows = RowsOf(Repeat(a, unit));
            alone = new Pair(Run(Repeat(a, unit), null), Run(Repeat(b, unit), null), unit);
            // Three show what two do, but which of them is wrong.
            int[][] passes = IsLarge(size) ? [[0, 1, 0]] : [[0, 1], [1, 0], [0, 1, 0]];
            var (outputs, reason) = Together(alone, a, b, passes);
            var filledTo = 0;
            if (outputs is null && unit > 1)
            {
                filledTo = unit;
                int[] alternating = [.. Enumerable.Range(0, unit).Select(i => i % 2)];
                (outputs, reason) = Together(alone, a, b, [alternating, [.. alternating.Select(i => 1 - i)]]);
            }

            if (outputs is null)
            {
                why = reason!;
                continue;
            }

            var plan = new PassPlan
            {
                FramesPerPass = filledTo > 0 ? filledTo : PassPlan.Unlimited,
                FilledTo = filledTo,
                Reason = filledTo > 0 ? $"its batch is fixed to {filledTo}" : null,
                Outputs = outputs,
                AtSource = AtSource(a, b, rows, (unit, filledTo), passes),
            };
            if (WhyMixedWhenAdapted(plan, a, b, IsLarge(size) ? [(0, 1)] : [(0, 1), (1, 0)]) is not { } adapted)
            {
                return plan;
            }

            why = adapted;
        }

        if (unit > 1)
        {
            throw new UnusableException($"its batch is fixed to {unit} and a frame's answer depends on the others in its pass ({why}); export it with a batch axis that is "
                + "free (torch.onnx.export(..., dynamic_axes=...))");
        }

        var single = PassPlan.OneByOne(_graph, why);
        for (var i = 0; i < single.Outputs.Length; i++)
        {
            if (alone.A[i].Shape is [1, ..] && alone.B[i].Shape is [1, ..])
            {
                single.Outputs[i] = new OutputLayout(FrameAxis.Frames);
            }
        }

        return single;
    }

    // Where the outputs hold their frames, if each frame has in all these passes the answer that it has alone.
    private (OutputLayout[]? Layouts, string? Why) Together(Pair alone, FrameBlock a, FrameBlock b, int[][] passes)
    {
        var seen = new List<TrialValues[]>();
        foreach (var pass in passes)
        {
            try
            {
                seen.Add(Run([.. pass.Select(frame => frame == 0 ? a : b)], null));
            }
            catch (Exception e) when (e is not OutOfMemoryException)
            {
                return (null, $"a pass of {pass.Length} frames fails: {Clipped(e.Message)}");
            }
        }

        var layouts = new OutputLayout[_graph.Outputs.Count];
        for (var i = 0; i < layouts.Length; i++)
        {
            var pair = (A: alone.A[i], B: alone.B[i]);
            TrialValues[] together = [.. seen.Select(outputs => outputs[i])];
            if (LayoutOf(pair.A, pair.B, alone.Frames, passes, together, _tolerance) is not { } layout)
            {
                return (null, $"output '{_graph.Outputs[i].Name}' answers a frame otherwise beside another than alone");
            }

            layouts[i] = layout;
        }

        return (layouts, null);
    }

    private static OutputLayout? LayoutOf(TrialValues a, TrialValues b, int aloneFrames, int[][] passes, TrialValues[] together, double tolerance)
    {
        for (var axis = 0; axis < a.Shape.Length; axis++)
        {
            var rows = a.Shape[axis] / aloneFrames;
            if (rows > 0 && a.Shape[axis] % aloneFrames == 0 && passes.Select((pass, i) => Holds(pass, together[i], axis, rows)).All(holds => holds))
            {
                return new OutputLayout(rows == 1 ? FrameAxis.Frames : FrameAxis.RowsOfFrames, axis);
            }
        }

        var constant = a.Agrees(b, tolerance) && together.All(values => values.Agrees(a, tolerance));
        return constant ? new OutputLayout(FrameAxis.Constant) : null;

        bool Holds(int[] pass, TrialValues values, int axis, long rows) =>
            values.Shape.Length == a.Shape.Length
            && values.Shape[axis] == rows * pass.Length
            && pass
                .Select((frame, place) => (Alone: frame == 0 ? a : b, Place: place))
                .All(one => values.Part(axis, one.Place * rows, rows).Agrees(one.Alone.Part(axis, 0, rows), tolerance, one.Alone.Scale));
    }

    // The sites whose rows are not those of the frames, one frame behind another.
    private bool[] AtSource(FrameBlock a, FrameBlock b, TrialValues[] rows, (int Unit, int FilledTo) batch, int[][] passes)
    {
        if (_graph.Sites.Count == 0)
        {
            return [];
        }

        // Without filling, frames alone are one a pass whatever the graph's batch is.
        var frames = Math.Max(1, batch.FilledTo);
        passes = batch.FilledTo > 0 ? [[.. Enumerable.Range(0, frames).Select(i => i % 2)]] : passes;
        var (aloneA, aloneB) = (frames == batch.Unit ? rows : RowsOf([a]), RowsOf(Repeat(b, frames)));
        var together = passes.Select(pass => RowsOf([.. pass.Select(frame => frame == 0 ? a : b)])).ToArray();
        var layouts = _graph.Sites.Select(site =>
            LayoutOf(aloneA[site.Index], aloneB[site.Index], frames, passes, [.. together.Select(rows => rows[site.Index])], 10 * _tolerance));
        return [.. layouts.Select(layout => layout is not { Kind: FrameAxis.Frames or FrameAxis.RowsOfFrames, Axis: 0 })];
    }

    private TrialValues[] RowsOf(FrameBlock[] frames)
    {
        var recorder = new SiteRecorder(_graph.Sites.Count);
        if (_graph.Sites.Count > 0)
        {
            Run(frames, recorder);
        }

        return recorder.Rows;
    }

    private string? WhyMixedWhenAdapted(PassPlan plan, FrameBlock a, FrameBlock b, (int First, int Second)[] pairs)
    {
        if (_graph.Sites.Count == 0)
        {
            return null;
        }

        var method = MethodSettings.Create("alpha_bn", new JsonObject { ["test_weight"] = 0.5 });
        var (aloneA, aloneB) = (_model.Trial(plan, method, [a])[0], _model.Trial(plan, method, [b])[0]);
        if (aloneA.Status == StepStatus.NotFinite || aloneB.Status == StepStatus.NotFinite)
        {
            // Made-up frames are none that the model was trained for.
            return null;
        }

        FrameBlock[] given = [a, b];
        StepResult[] alone = [aloneA, aloneB];
        foreach (var (first, second) in pairs)
        {
            StepResult[] expected = [alone[first], alone[second]];
            var together = _model.Trial(plan, method, [given[first], given[second]]);
            for (var frame = 0; frame < 2; frame++)
            {
                if (together[frame].Status != StepStatus.Ok || expected[frame].Status != StepStatus.Ok)
                {
                    return Clipped(together[frame].Message ?? expected[frame].Message ?? "an adapted pass fails");
                }

                if (!together[frame].Outputs.Zip(expected[frame].Outputs).All(pair => TrialValues.Of(pair.First).Agrees(TrialValues.Of(pair.Second), _tolerance)))
                {
                    return "adapted, a frame is answered otherwise beside another than alone";
                }
            }
        }

        return null;
    }

    private TrialValues[] Run(FrameBlock[] frames, ISiteNormalizer? sites)
    {
        using var scope = NewDisposeScope();
        using var mode = inference_mode();
        return Array.ConvertAll(_model.Pass.Trial(frames, sites, alone: !IsLarge((frames[0].Channels, frames[0].Height, frames[0].Width))), TrialValues.Of);
    }

    private IEnumerable<string> Describe(PassPlan plan)
    {
        if (plan.FramesPerPass != PassPlan.Unlimited)
        {
            yield return $"a pass takes {plan.FramesPerPass} frame{(plan.FramesPerPass == 1 ? string.Empty : "s")}: {plan.Reason}; streams share no pass beyond that, and "
                + "longer steps run in parts, each adapting as a step of its own would";
        }

        foreach (var site in _graph.Sites.Where(site => plan.AtSource[site.Index]))
        {
            yield return $"site '{site.Name}' stays at its source statistics: its rows are not those of the frames, one frame behind another";
        }

        for (var i = 0; i < plan.Outputs.Length; i++)
        {
            var what = plan.Outputs[i] switch
            {
                { Kind: FrameAxis.Frames, Axis: 0 } => null,
                { Kind: FrameAxis.Constant } => "does not depend on the frames; every frame is answered with all of it",
                { Kind: FrameAxis.OfOnePass } => "has no axis for the frames; answers have one before the others",
                { Axis: var axis } => $"holds its frames on axis {axis}; answers have them as first axis",
            };
            if (what is not null)
            {
                yield return $"output '{_graph.Outputs[i].Name}' {what}";
            }
        }
    }

    private static FrameBlock[] Repeat(FrameBlock frame, int times) => [.. Enumerable.Repeat(frame, times)];

    private static string Clipped(string message)
    {
        var line = message.Split('\n')[0];
        return line.Length <= 200 ? line : $"{line[..200]}…";
    }

    private FrameBlock MadeUpFrame((int Channels, int Height, int Width) size, int seed) => TrialFrames.Make(size, seed, _model.InputNormalization);

    /// <summary>No frame can be run, or none without the others of its pass.</summary>
    public sealed class UnusableException(string message) : Exception(message);

    /// <summary>The outputs of two frames, each in a pass of this many copies of it.</summary>
    private readonly record struct Pair(TrialValues[] A, TrialValues[] B, int Frames);
}
