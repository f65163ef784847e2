using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Runs the torch form of methods. One of another assembly may do anything: what it answers is checked, and a step that it fails for fails alone.</summary>
internal static class TorchForm
{
    /// <summary>What normalizes the frames of like steps, broadcastable to [S,n,C].</summary>
    /// <param name="runtime">Their method.</param>
    /// <param name="steps">What they show it.</param>
    /// <param name="faults">One a step: why its method failed; such a step is normalized with the source statistics. Gains what fails now.</param>
    public static (Tensor Mean, Tensor Variance) Forward(MethodRuntime runtime, SiteTensors steps, string?[] faults)
    {
        if (!runtime.IsForeign)
        {
            return runtime.Method.Forward(steps);
        }

        if (Array.TrueForAll(faults, fault => fault is null))
        {
            using var kept = steps.Kept?.clone();
            try
            {
                return Checked(runtime.Method, steps);
            }
            catch (Exception fault) when (MethodFault.IsOwn(fault))
            {
                Undo(steps, kept);
                if (faults.Length == 1)
                {
                    faults[0] = Message(runtime, steps, fault);
                    return AtSource(steps, 1);
                }
            }
        }

        var each = new (Tensor Mean, Tensor Variance)[faults.Length];
        for (var i = 0; i < each.Length; i++)
        {
            var step = steps.Only(i);
            string?[] own = [faults[i]];
            each[i] = own[0] is null ? Forward(runtime, step, own) : AtSource(step, 1);
            faults[i] = own[0];
        }

        return (cat(Array.ConvertAll(each, step => Whole(step.Mean, steps, 1))), cat(Array.ConvertAll(each, step => Whole(step.Variance, steps, 1))));
    }

    private static (Tensor Mean, Tensor Variance) Checked(INormalizationMethod method, SiteTensors steps)
    {
        using var scope = NewDisposeScope();
        // Tensors of its own, whatever it does with them.
        var (mean, variance) = method.Forward(steps.WithOwnSource());
        return (Checked("mean", mean, steps).MoveToOuterDisposeScope(), Checked("variance", variance, steps).MoveToOuterDisposeScope());
    }

    private static Tensor Checked(string name, Tensor? answer, SiteTensors steps)
    {
        if (answer is null || answer.IsInvalid)
        {
            throw new MethodAnswerException($"its {name} is null or disposed; give a tensor");
        }

        var count = steps.InstanceMean.shape[0];
        if (!Fits(answer.shape, [count, steps.Frames, steps.Channels]))
        {
            throw new MethodAnswerException($"its {name} has shape [{string.Join(',', answer.shape)}], "
                + $"which does not broadcast to [S,n,C] = [{count},{steps.Frames},{steps.Channels}]");
        }

        return answer.device.type == steps.InstanceMean.device.type
            ? Whole(answer.to_type(ScalarType.Float32), steps, count)
            : throw new MethodAnswerException($"its {name} is on {answer.device}, the frames are on {steps.InstanceMean.device}; make tensors where SiteTensors.InstanceMean is");
    }

    private static bool Fits(long[] shape, long[] whole)
    {
        if (shape.Length > whole.Length)
        {
            return false;
        }

        for (var axis = 1; axis <= shape.Length; axis++)
        {
            if (shape[^axis] != 1 && shape[^axis] != whole[^axis])
            {
                return false;
            }
        }

        return true;
    }

    private static (Tensor Mean, Tensor Variance) AtSource(SiteTensors steps, long count) => (Whole(steps.SourceMean, steps, count), Whole(steps.SourceVariance, steps, count));

    // A copy: what is broadcast, and what the method may still hold, is not the caller's.
    private static Tensor Whole(Tensor statistic, SiteTensors steps, long count) => statistic.expand(count, steps.Frames, steps.Channels).clone();

    private static void Undo(SiteTensors steps, Tensor? kept)
    {
        steps.NextState.copy_(steps.State);
        if (kept is not null)
        {
            steps.Kept!.copy_(kept);
        }
    }

    private static string Message(MethodRuntime runtime, SiteTensors steps, Exception fault) => MethodFault.Message(runtime.Settings.Name, $"at site '{steps.Site.Name}'", fault);
}
