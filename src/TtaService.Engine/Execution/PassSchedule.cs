namespace TtaService.Engine.Execution;

/// <summary>Consecutive frames of a step that run in one pass.</summary>
/// <param name="Step">Which of the steps.</param>
/// <param name="First">Their first frame in the step.</param>
/// <param name="Count">How many.</param>
internal readonly record struct StepPart(int Step, int First, int Count);

/// <summary>Spreads steps over passes that hold only so many frames.</summary>
internal static class PassSchedule
{
    /// <summary>The parts of each pass. A longer step is cut into parts of about one size, and no pass holds two parts of a step, since a part goes on from the state
    /// behind the one before it.</summary>
    /// <param name="frames">Frames of each step.</param>
    /// <param name="framesPerPass">Most frames of a pass.</param>
    public static List<StepPart[]> Of(IReadOnlyList<int> frames, int framesPerPass)
    {
        var passes = new List<StepPart[]>();
        var pass = new List<StepPart>();
        var rounds = frames.Max(count => Parts(count, framesPerPass));
        for (var round = 0; round < rounds; round++)
        {
            var held = 0;
            for (var step = 0; step < frames.Count; step++)
            {
                if (PartOf(step, frames[step], round, framesPerPass) is not { Count: > 0 } part)
                {
                    continue;
                }

                if (held + (long)part.Count > framesPerPass)
                {
                    passes.Add([.. pass]);
                    pass.Clear();
                    held = 0;
                }

                pass.Add(part);
                held = checked(held + part.Count);
            }

            passes.Add([.. pass]);
            pass.Clear();
        }

        return passes;
    }

    /// <summary>The parts of a pass, spread over passes of at most so many frames each; a part that has more comes alone.</summary>
    public static IEnumerable<StepPart[]> Packed(IReadOnlyList<StepPart> parts, long most)
    {
        var (pack, held) = (new List<StepPart>(), 0L);
        foreach (var part in parts)
        {
            if (pack.Count > 0 && held + part.Count > most)
            {
                yield return [.. pack];
                pack.Clear();
                held = 0;
            }

            pack.Add(part);
            held += part.Count;
        }

        if (pack.Count > 0)
        {
            yield return [.. pack];
        }
    }

    /// <summary>Frames of the smallest part of a step.</summary>
    public static int SmallestPart(int frames, int framesPerPass) => frames / Parts(frames, framesPerPass);

    private static int Parts(int frames, int framesPerPass) => (int)(((long)frames + framesPerPass - 1) / framesPerPass);

    private static StepPart PartOf(int step, int frames, int round, int framesPerPass)
    {
        var parts = Parts(frames, framesPerPass);
        var (first, end) = ((int)((long)round * frames / parts), (int)((round + 1L) * frames / parts));
        return round < parts ? new StepPart(step, first, end - first) : default;
    }
}
