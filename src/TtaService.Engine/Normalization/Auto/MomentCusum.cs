namespace TtaService.Engine.Normalization.Auto;

/// <summary>Notices that the camera changed: a one-sided cumulative sum of how much further frames are from the running moments than they used to be (Page, 1954). A
/// change makes the running moments forget.</summary>
internal static class MomentCusum
{
    /// <summary>The first sites see the picture itself.</summary>
    public const int Sites = 4;

    private const float Allowance = 0.5f;
    private const float Threshold = 4;
    private const float FramesKept = 4;
    private const float Memory = 32;

    // A stream that has settled is not changed by a few frames, however far away they are: ten of somebody else's picture teach nothing.
    private const float SettledFrames = 32;
    private const float LeastFrames = 12;
    private const float FrameLimit = Threshold / LeastFrames;

    // No change of class moves frames that far.
    private const float Far = 2;

    /// <summary>Whether a step is so far away that it must be another camera or no picture of this one, and too few such frames came to tell: then it is to be answered,
    /// not learned.</summary>
    /// <param name="distance">Mean distance of the step's frames from the running moments at the first sites.</param>
    /// <param name="frames">Frames of the step.</param>
    /// <param name="clock">Frames that the running moments stand for.</param>
    /// <param name="change">The cumulative sum, which moves when the step is not learned.</param>
    /// <param name="usual">The usual distance.</param>
    public static bool Suspends(float distance, int frames, float clock, ref float change, float usual)
    {
        if (clock <= SettledFrames || Excess(distance, usual) <= Far || change + (frames * FrameLimit) > Threshold)
        {
            return false;
        }

        change += frames * FrameLimit;
        return true;
    }

    /// <summary>Takes a step's distance and returns the clock, which a change sets back.</summary>
    /// <param name="distance">Mean distance of the step's frames from the running moments at the first sites.</param>
    /// <param name="frames">Frames of the step.</param>
    /// <param name="clock">Frames that the running moments stand for.</param>
    /// <param name="change">The cumulative sum.</param>
    /// <param name="usual">The usual distance.</param>
    public static float Update(float distance, int frames, float clock, ref float change, ref float usual)
    {
        var excess = Excess(distance, usual);
        change = Math.Max(0, change + (frames * (clock > SettledFrames ? Math.Min(excess, FrameLimit) : excess)));
        if (change > Threshold && clock > 2 * FramesKept)
        {
            (clock, change) = (FramesKept, 0);
        }

        usual += frames / (Memory + frames) * (distance - usual);
        return clock;
    }

    private static float Excess(float distance, float usual) => (distance / Math.Max(usual, 1)) - 1 - Allowance;
}
