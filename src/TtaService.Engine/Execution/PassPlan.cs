using TorchSharp;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>How the frames of a pass lie in a model's activations and outputs, so that none is answered with another's values. Found by <see cref="PassProbe"/>.</summary>
internal sealed record PassPlan
{
    /// <summary>A pass takes as many frames as there are.</summary>
    public const int Unlimited = int.MaxValue;

    /// <summary>Most frames of a pass.</summary>
    public required int FramesPerPass { get; init; }

    /// <summary>Frames that every pass is filled up to; 0 where the graph takes any number.</summary>
    public int FilledTo { get; init; }

    /// <summary>Why a pass takes no more; null when it takes any number.</summary>
    public string? Reason { get; init; }

    /// <summary>Where each output holds its frames.</summary>
    public required OutputLayout[] Outputs { get; init; }

    /// <summary>By site: whether it stays at its source statistics, because its rows are not the frames of the pass, outermost.</summary>
    public required bool[] AtSource { get; init; }

    /// <summary>One frame a pass: right for every graph that takes one frame at all.</summary>
    public static PassPlan OneByOne(ModelGraph graph, string? reason = null) => new()
    {
        FramesPerPass = 1,
        Reason = reason,
        Outputs = [.. graph.Outputs.Select(output => new OutputLayout(output.Shape is [1, ..] ? FrameAxis.Frames : FrameAxis.OfOnePass))],
        AtSource = new bool[graph.Sites.Count],
    };

    /// <summary>What a graph with a batch as first axis everywhere does.</summary>
    public static PassPlan AsDeclared(ModelGraph graph) => new()
    {
        FramesPerPass = Unlimited,
        Outputs = [.. graph.Outputs.Select(_ => new OutputLayout(FrameAxis.Frames))],
        AtSource = new bool[graph.Sites.Count],
    };

    /// <summary>Frames that are computed for this many.</summary>
    public int Computed(int frames) => Math.Max(frames, FilledTo);
}

/// <summary>Where an output holds the frames of a pass.</summary>
/// <param name="Kind">What its axes say of the frames.</param>
/// <param name="Axis">The axis with the frames.</param>
internal readonly record struct OutputLayout(FrameAxis Kind, int Axis = 0)
{
    /// <summary>The output as [frames, ...].</summary>
    /// <exception cref="PassException">Its shape says otherwise for these frames.</exception>
    public Tensor FramesFirst(string name, Tensor output, int frames)
    {
        switch (Kind)
        {
            case FrameAxis.OfOnePass:
                return frames == 1 ? output.unsqueeze(0) : throw Unexpected(name, output, frames);
            case FrameAxis.Constant:
                return output.unsqueeze(0).expand([frames, .. output.shape]);
        }

        var shape = output.shape;
        if (shape.Length <= Axis || shape[Axis] % frames != 0 || (shape[Axis] == 0 && frames > 0))
        {
            throw Unexpected(name, output, frames);
        }

        if (Kind == FrameAxis.Frames)
        {
            return shape[Axis] != frames ? throw Unexpected(name, output, frames) : Axis == 0 ? output : output.movedim([Axis], [0]);
        }

        return output.reshape([.. shape[..Axis], frames, shape[Axis] / frames, .. shape[(Axis + 1)..]]).movedim([Axis], [0]);
    }

    private static PassException Unexpected(string name, Tensor output, int frames) => new(
        $"output '{name}' has shape [{string.Join(',', output.shape)}] for {frames} frame{(frames == 1 ? string.Empty : "s")} of this size, which can't be told apart; "
            + "send one frame a step, or export the model with the batch as first axis");
}

/// <summary>What the axes of an output say of the frames of a pass.</summary>
internal enum FrameAxis
{
    /// <summary>One entry of the axis is a frame.</summary>
    Frames,

    /// <summary>As many neighbouring entries of the axis are a frame.</summary>
    RowsOfFrames,

    /// <summary>The same whatever the frames are.</summary>
    Constant,

    /// <summary>The output belongs to the one frame of its pass as a whole.</summary>
    OfOnePass,
}
