namespace TtaService.Engine.Execution;

/// <summary>Collects a step's outputs from the passes that its parts ran in.</summary>
internal sealed class StepOutputs
{
    private readonly List<OutputTensor[]> _parts = [];
    private readonly List<float> _unfiltered = [];

    /// <summary>Why a pass of the step could not be run; null while all could.</summary>
    public string? Failure { get; set; }

    /// <summary>How a step ends that has a <see cref="Failure"/>.</summary>
    public StepStatus FailedAs { get; private set; } = StepStatus.Refused;

    /// <summary>Takes what the step's method failed with; null for nothing.</summary>
    public void TakeFault(string? fault)
    {
        if (fault is not null && Failure is null)
        {
            (Failure, FailedAs) = (fault, StepStatus.MethodFailed);
        }
    }

    /// <summary>Takes the step's frames from a pass's outputs, [frames, ...] each.</summary>
    public void Take(OutputTensor[] outputs, int firstFrame, int count) => _parts.Add(Array.ConvertAll(outputs, output => Slice(output, firstFrame, count)));

    /// <summary>The outputs for all frames of the step; null, with <see cref="Failure"/>, where its frames have outputs of different shapes.</summary>
    public OutputTensor[]? Joined()
    {
        if (Failure is not null || _parts.Count == 1)
        {
            return Failure is null ? _parts[0] : null;
        }

        var joined = new OutputTensor[_parts[0].Length];
        for (var i = 0; i < joined.Length; i++)
        {
            var first = _parts[0][i];
            if (_parts.Find(part => !part[i].Shape.AsSpan(1).SequenceEqual(first.Shape.AsSpan(1))) is { } other)
            {
                Failure = $"output '{first.Name}' has shape [{string.Join(',', first.Shape[1..])}] for one frame and [{string.Join(',', other[i].Shape[1..])}] for "
                    + "another; send one frame a step";
                return null;
            }

            joined[i] = new OutputTensor(first.Name, [_parts.Sum(part => part[i].Shape[0]), .. first.Shape[1..]], [.. _parts.SelectMany(part => part[i].Values)]);
        }

        return joined;
    }

    /// <summary>Takes the class scores of a part as they were before its method replaced them; null where it did not.</summary>
    public void TakeUnfiltered(float[]? scores) => _unfiltered.AddRange(scores ?? []);

    /// <summary>The answer, with the class scores as they were before the method replaced them.</summary>
    public StepResult Answer(StepResult answer, ModelOutput? scores) => answer.Status == StepStatus.Ok && _unfiltered.Count > 0
        ? answer with { Unfiltered = answer.Outputs[scores!.Index] with { Values = [.. _unfiltered] } }
        : answer;

    private static OutputTensor Slice(OutputTensor output, int firstFrame, int count)
    {
        var floats = output.Values.Length / output.Shape[0];
        return new OutputTensor(output.Name, [count, .. output.Shape.AsSpan(1)], output.Values.AsSpan(firstFrame * floats, count * floats).ToArray());
    }
}
