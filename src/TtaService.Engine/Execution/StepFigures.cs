using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Execution;

/// <summary>What the host alone knows of steps, for the torch form of their method.</summary>
internal static class StepFigures
{
    /// <summary>The figures of like steps, [S,figures]; zeros for a step that the method fails for.</summary>
    /// <param name="runtime">Their method.</param>
    /// <param name="frames">Frames n of each.</param>
    /// <param name="framesBefore">Of each: frames of its stream that were committed before it.</param>
    /// <param name="faults">One a step; gains why the method failed.</param>
    public static float[] Of(MethodRuntime runtime, int frames, long[] framesBefore, string?[] faults)
    {
        var (figures, count) = (new float[framesBefore.Length][], -1);
        for (var i = 0; i < figures.Length; i++)
        {
            try
            {
                figures[i] = runtime.Method.StepFigures(frames, framesBefore[i]) ?? throw new MethodAnswerException("it gave null; give an empty array where there are none");
                count = count < 0 ? figures[i].Length : count;
                if (figures[i].Length != count)
                {
                    throw new MethodAnswerException($"it gave {figures[i].Length} figures after {count}; give as many for every step");
                }
            }
            catch (Exception fault) when (MethodFault.IsOwn(fault))
            {
                (figures[i], faults[i]) = ([], MethodFault.Message(runtime.Settings.Name, "when it was asked for the figures of a step", fault));
            }
        }

        count = Math.Max(count, 0);
        var joined = new float[count * figures.Length];
        for (var i = 0; i < figures.Length; i++)
        {
            figures[i].CopyTo(joined, i * count);
        }

        return joined;
    }
}
