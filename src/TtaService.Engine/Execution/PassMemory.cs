using System.Buffers;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>What one step of an <see cref="IPassMethod"/> carries through a pass, from its beginning to its completion.</summary>
internal sealed class PassMemory : IDisposable
{
    private readonly IPassMethod _method;
    private readonly StateLayout _layout;
    private readonly ModelOutput? _scores;
    private readonly int _frames;
    private readonly long _framesBefore;
    private readonly string _name;
    private readonly bool _isFrozen;
    private int _begunFloats;
    private int _keptFloats;
    private int _sourceFrames;
    private float[] _rented = [];

    private PassMemory(MethodRuntime runtime, IPassMethod method, int frames, long framesBefore, bool isFrozen)
    {
        (_name, _method, _layout, _scores) = (runtime.Settings.Name, method, runtime.Layout, runtime.Scores);
        (_frames, _framesBefore, _isFrozen) = (frames, framesBefore, isFrozen);
    }

    /// <summary>Why the method failed before or behind the pass; null while it did not.</summary>
    public string? Fault { get; private set; }

    /// <summary>What the sites read.</summary>
    public Span<float> Begun => _rented.AsSpan(0, _begunFloats);

    /// <summary>What the sites keep.</summary>
    public Span<float> Kept => _rented.AsSpan(_begunFloats, _keptFloats);

    /// <summary>The scores as the model answered them, when the method replaced them.</summary>
    public float[]? Unfiltered { get; private set; }

    /// <summary>Begins a step; null when its method sees one site at a time.</summary>
    /// <param name="runtime">Its method.</param>
    /// <param name="frames">Its frames.</param>
    /// <param name="framesBefore">Frames of the stream that were committed before it.</param>
    /// <param name="isFrozen">Whether nothing of it will be committed.</param>
    /// <param name="row">Its stream's row.</param>
    public static PassMemory? Begin(MethodRuntime runtime, int frames, long framesBefore, bool isFrozen, ReadOnlySpan<float> row)
    {
        if (runtime.Method is not IPassMethod method)
        {
            return null;
        }

        var memory = new PassMemory(runtime, method, frames, framesBefore, isFrozen);
        try
        {
            memory.Begin(row);
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            memory.Fault = MethodFault.Message(memory._name, "at the beginning of a pass", fault);
            memory._sourceFrames = 0;
        }

        return memory;
    }

    /// <summary>Rows of what steps carry through a pass, [S*floats]; of a step that failed at its beginning there may be less, and zeros follow.</summary>
    public static float[] Joined(IReadOnlyList<float[]> rows)
    {
        var floats = rows.Max(row => row.Length);
        var joined = new float[rows.Count * floats];
        for (var i = 0; i < rows.Count; i++)
        {
            rows[i].CopyTo(joined, i * floats);
        }

        return joined;
    }

    /// <summary>The source's own scores of the frames that the steps want them of, for each step; one pass for all of them.</summary>
    public static ArraySegment<float>[] Source(ModelPass pass, PassMemory?[] memories, Func<int, FrameBlock> framesOf)
    {
        var (scores, blocks) = (new ArraySegment<float>[memories.Length], new List<FrameBlock>());
        for (var i = 0; i < memories.Length; i++)
        {
            if (memories[i] is { _sourceFrames: > 0 and var count })
            {
                blocks.Add(framesOf(i).Slice(0, count));
            }
        }

        if (blocks.Count == 0)
        {
            return scores;
        }

        var frames = blocks.Sum(block => block.Count);
        OutputTensor[] outputs = [.. pass.RunSource(blocks)];
        var floats = ClassScores.Of(outputs, frames, pass.Scores).Length / frames;
        var at = 0;
        for (var i = 0; i < memories.Length && floats > 0; i++)
        {
            if (memories[i] is { _sourceFrames: > 0 and var count })
            {
                scores[i] = new ArraySegment<float>(outputs[pass.Scores!.Index].Values, at * floats, count * floats);
                at += count;
            }
        }

        return scores;
    }

    /// <summary>Lets the method want the source's answer of more frames, now that the pass has run.</summary>
    /// <param name="row">The stream's row.</param>
    /// <param name="outputs">Of the whole batch.</param>
    /// <param name="firstFrame">The step's first frame in the batch.</param>
    /// <param name="frames">Frames of the batch.</param>
    public void Reconsider(ReadOnlySpan<float> row, OutputTensor[] outputs, int firstFrame, int frames)
    {
        if (Fault is not null)
        {
            return;
        }

        var scores = ScoresOf(outputs, firstFrame, frames);
        var step = new PassStep { Layout = _layout, Frames = _frames, FramesBefore = _framesBefore, State = row, Begun = Begun, Kept = Kept };
        try
        {
            var wanted = _method.SourceFrames(step, scores, _sourceFrames);
            // Of a frozen stream the source is only asked for an answer.
            _sourceFrames = _isFrozen && wanted < _frames ? 0 : Math.Clamp(wanted, 0, _frames);
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            Fault = MethodFault.Message(_name, "behind a pass", fault);
            _sourceFrames = 0;
        }
    }

    /// <summary>Completes a step: fills the proposed row and replaces the answer where the method does.</summary>
    /// <param name="row">The stream's row.</param>
    /// <param name="next">The proposed row.</param>
    /// <param name="outputs">Of the whole batch.</param>
    /// <param name="firstFrame">The step's first frame in the batch.</param>
    /// <param name="frames">Frames of the batch.</param>
    /// <param name="source">The source's own scores of the step's first frames.</param>
    public void Complete(ReadOnlySpan<float> row, Span<float> next, OutputTensor[] outputs, int firstFrame, int frames, ReadOnlySpan<float> source)
    {
        if (Fault is not null)
        {
            return;
        }

        var scores = ScoresOf(outputs, firstFrame, frames);
        var before = scores.ToArray();
        var step = new PassStep { Layout = _layout, Frames = _frames, FramesBefore = _framesBefore, State = row, NextState = next, Begun = Begun, Kept = Kept };
        try
        {
            Unfiltered = _method.Complete(step, scores, source) ? before : null;
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            Fault = MethodFault.Message(_name, "at the end of a pass", fault);
        }
    }

    private void Begin(ReadOnlySpan<float> row)
    {
        var (begun, kept) = (_method.BegunFloats, _method.KeptFloats(_frames));
        // A frozen stream keeps nothing that the source says.
        var source = _isFrozen ? 0 : _method.SourceFrames(_frames, _framesBefore);
        if (begun < 0 || kept < 0 || source < 0 || source > _frames)
        {
            throw new MethodAnswerException($"it wants {begun} floats begun, {kept} kept and {source} frames of the source for {_frames} frames; "
                + "give 0 or more, and no more frames than there are");
        }

        _rented = ArrayPool<float>.Shared.Rent(checked(begun + kept));
        (_begunFloats, _keptFloats, _sourceFrames) = (begun, kept, source);
        Kept.Clear();
        _method.Begin(new PassStep { Layout = _layout, Frames = _frames, FramesBefore = _framesBefore, State = row, Begun = Begun });
    }

    // The step's own among the batch's.
    private Span<float> ScoresOf(OutputTensor[] outputs, int firstFrame, int frames)
    {
        var scores = ClassScores.Of(outputs, frames, _scores);
        var classes = scores.Length / frames;
        return scores.Slice(firstFrame * classes, _frames * classes);
    }

    public void Dispose()
    {
        if (_rented.Length > 0)
        {
            ArrayPool<float>.Shared.Return(_rented);
            _rented = [];
        }
    }
}
