namespace TtaService.Engine.Execution;

/// <summary>Collects a step's outputs from the passes that its parts ran in.</summary>
internal sealed class StepOutputs
{
    private readonly List<OutputTensor[]> _parts = [];
    private readonly List<float[]?> _unfiltered = [];

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
    public void Take(OutputTensor[] outputs, int firstFrame, int count) => _parts.Add(Array.ConvertAll(outputs, output => output.Part(firstFrame, count)));

    /// <summary>The outputs for all frames of the step; null, with <see cref="Failure"/>, where its frames have outputs of different shapes beyond the number
    /// of their entries.</summary>
    public OutputTensor[]? Joined()
    {
        if (Failure is not null || _parts.Count == 1)
        {
            return Failure is null ? _parts[0] : null;
        }

        var joined = new OutputTensor[_parts[0].Length];
        for (var i = 0; i < joined.Length; i++)
        {
            var at = i;
            OutputTensor[] parts = [.. _parts.Select(part => part[at])];
            if (OutputTensor.Join(parts) is not { } whole)
            {
                var other = Array.Find(parts, part => !part.Shape.AsSpan(1).SequenceEqual(parts[0].Shape.AsSpan(1)))!;
                Failure = $"output '{other.Name}' has shape [{string.Join(',', parts[0].Shape[1..])}] for one frame and [{string.Join(',', other.Shape[1..])}] for "
                    + "another; send one frame a step";
                return null;
            }

            joined[i] = whole;
        }

        return joined;
    }

    /// <summary>Takes the class scores of a part as they were before its method replaced them; null where it did not.</summary>
    public void TakeUnfiltered(float[]? scores) => _unfiltered.Add(scores);

    /// <summary>The answer, with the class scores as they were before the method replaced them, where it did so in any part.</summary>
    public StepResult Answer(StepResult answer, ModelOutput? scores) => answer.Status == StepStatus.Ok && _unfiltered.Exists(part => part is not null)
        ? answer with { Unfiltered = answer.Outputs[scores!.Index] with { Values = [.. _unfiltered.SelectMany((part, i) => part ?? _parts[i][scores.Index].Values)] } }
        : answer;
}
