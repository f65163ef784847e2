using System.Buffers;
using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Streams;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>The parts of a pass whose streams' scales and biases are trained: weighs their frames in the loss, and lets their method learn from the gradients.</summary>
/// <param name="pass">What they run through.</param>
/// <param name="runtime">Their method.</param>
/// <param name="current">Their streams' rows, [S,floats].</param>
/// <param name="next">The proposed rows, [S,floats].</param>
internal sealed class TrainedParts(ModelPass pass, MethodRuntime runtime, Tensor current, Tensor next)
{
    private readonly IAffineMethod _method = (IAffineMethod)runtime.Method;
    private readonly IReadOnlyList<NormalizationSite> _sites = [.. pass.Sites.Where(runtime.Adapts)];
    private readonly List<(StepGroup Group, int Place)> _groups = [];
    private readonly HashSet<int> _untaught = [];
    private float[] _current = [];
    private float[] _next = [];

    /// <summary>Takes neighbouring parts, of which the first is at this place among the rows.</summary>
    public void Add(StepGroup group, int place) => _groups.Add((group, place));

    /// <summary>Fills the weights of the parts' frames.</summary>
    /// <param name="outputs">Of the whole pass.</param>
    /// <param name="weights">One a frame of the pass.</param>
    public void Weigh(OutputTensor[] outputs, Span<float> weights)
    {
        (_current, _next) = (current.ToHost<float>(), next.ToHost<float>());
        var frames = weights.Length;
        var scores = ClassScores.Of(outputs, frames, pass.Scores);
        var classes = scores.Length / frames;
        var probabilities = ArrayPool<float>.Shared.Rent(scores.Length);
        try
        {
            foreach (var (group, place) in _groups)
            {
                for (var i = 0; i < group.Steps; i++)
                {
                    var first = group.FirstFrame + (i * group.Frames);
                    var own = probabilities.AsSpan(0, group.Frames * classes);
                    ClassScores.ToProbabilities(pass.Scores!.Kind, scores.Slice(first * classes, own.Length), classes, own);
                    var weightsOfStep = weights.Slice(first, group.Frames);
                    _method.Weigh(Step(place + i, group.Frames), own, weightsOfStep);
                    if (!weightsOfStep.ContainsAnyExcept(0))
                    {
                        _untaught.Add(place + i);
                    }
                }
            }
        }
        finally
        {
            ArrayPool<float>.Shared.Return(probabilities);
        }
    }

    /// <summary>Proposes what the parts learn, once the gradients are there.</summary>
    public void Learn()
    {
        foreach (var (group, place) in _groups)
        {
            var gradients = group.Affine!.Gradients();
            for (var i = 0; i < group.Steps; i++)
            {
                if (!_untaught.Contains(place + i))
                {
                    _method.Learn(Step(place + i, group.Frames), gradients[i]);
                }
            }
        }

        using var proposed = tensor(_next, next.shape);
        next.copy_(proposed);
    }

    private AffineStep Step(int place, int frames)
    {
        var floats = runtime.Layout.RowFloats;
        return new AffineStep
        {
            Layout = runtime.Layout,
            Sites = _sites,
            Ranges = pass.Ranges,
            Frames = frames,
            State = _current.AsSpan(place * floats, floats),
            NextState = _next.AsSpan(place * floats, floats),
        };
    }
}
