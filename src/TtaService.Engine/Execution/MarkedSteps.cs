namespace TtaService.Engine.Execution;

/// <summary>The steps of a batch, with the frames that the host marked as teaching nothing set apart: they are answered as a step of their own, from the state as it
/// stands.</summary>
internal sealed class MarkedSteps
{
    private readonly IReadOnlyList<StreamStep> _steps;
    private readonly StreamStep?[] _taught;
    private readonly StreamStep?[] _aside;
    private readonly (int[] Taught, int[] Aside)?[] _places;

    public MarkedSteps(IReadOnlyList<StreamStep> steps)
    {
        _steps = steps;
        _taught = [.. steps];
        _aside = new StreamStep?[steps.Count];
        _places = new (int[], int[])?[steps.Count];
        for (var i = 0; i < steps.Count; i++)
        {
            if (steps[i].NotLearned is { } reasons)
            {
                Split(i, reasons);
            }
        }
    }

    /// <summary>What is learned of each step, or the whole step where nothing is.</summary>
    public IReadOnlyList<StreamStep?> Taught => _taught;

    /// <summary>What is not, of the steps that mix; null for the others.</summary>
    public IReadOnlyList<StreamStep?> Aside => _aside;

    /// <summary>Takes the answers to what was set apart out of the results, so that the rest can run; what could not be answered stays there.</summary>
    public StepResult?[] Put(StepResult?[] results)
    {
        var aside = new StepResult?[results.Length];
        for (var i = 0; i < results.Length; i++)
        {
            if (_aside[i] is not null && results[i] is { Status: StepStatus.Ok } answer)
            {
                (aside[i], results[i]) = (answer, null);
            }
        }

        return aside;
    }

    /// <summary>Makes one answer of both parts, frames in their order, and says which were not learned.</summary>
    public void Join(StepResult[] results, StepResult?[] aside)
    {
        for (var i = 0; i < results.Length; i++)
        {
            if (_steps[i].NotLearned is not { } marks || results[i].Status != StepStatus.Ok)
            {
                continue;
            }

            NotLearnedReason[] reasons = [.. marks];
            if (_places[i] is { } places && aside[i] is { } other)
            {
                var own = results[i];
                results[i] = own with
                {
                    Outputs = [.. own.Outputs.Zip(other.Outputs, (taught, apart) => Interleave(taught, apart, places))],
                    Unfiltered = (own.Unfiltered ?? other.Unfiltered)?.Name is { } name ? Interleave(Raw(own, name), Raw(other, name), places) : null,
                };
                for (var frame = 0; frame < own.NotLearned.Count; frame++)
                {
                    reasons[places.Taught[frame]] = own.NotLearned[frame];
                }
            }
            else if (results[i].NotLearned.Count > 0)
            {
                continue;
            }

            results[i] = results[i] with { NotLearned = _steps[i].Freeze || Array.TrueForAll(reasons, reason => reason == NotLearnedReason.None) ? [] : reasons };
        }
    }

    // Where a method left the answer of one part as it was, that is the unfiltered one.
    private static OutputTensor Raw(StepResult result, string name) => result.Unfiltered ?? result.Outputs.First(output => output.Name == name);

    private void Split(int step, IReadOnlyList<NotLearnedReason> reasons)
    {
        var frames = _steps[step].Frames;
        if (reasons.Count != frames.Count)
        {
            throw new ArgumentException($"a step of {frames.Count} frames has {reasons.Count} reasons for not learning them; give one a frame", nameof(reasons));
        }

        int[] taught = [.. Enumerable.Range(0, frames.Count).Where(frame => reasons[frame] == NotLearnedReason.None)];
        if (taught.Length == frames.Count)
        {
            return;
        }

        if (taught.Length == 0)
        {
            _taught[step] = _steps[step] with { Teaches = false };
            return;
        }

        int[] apart = [.. Enumerable.Range(0, frames.Count).Except(taught)];
        _places[step] = (taught, apart);
        _taught[step] = _steps[step] with { Frames = frames.Copy(taught) };
        _aside[step] = _steps[step] with { Frames = frames.Copy(apart), Teaches = false };
    }

    private static OutputTensor Interleave(OutputTensor taught, OutputTensor apart, (int[] Taught, int[] Aside) places)
    {
        var frames = new OutputTensor[places.Taught.Length + places.Aside.Length];
        Spread(taught, places.Taught);
        Spread(apart, places.Aside);
        return OutputTensor.Join(frames) ?? throw new InvalidOperationException($"output '{taught.Name}' has other shapes for other frames; send one frame a step");

        void Spread(OutputTensor output, int[] to)
        {
            for (var i = 0; i < to.Length; i++)
            {
                frames[to[i]] = output.Part(i, 1);
            }
        }
    }
}
