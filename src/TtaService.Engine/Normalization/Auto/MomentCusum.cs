namespace TtaService.Engine.Normalization.Auto;

/// <summary>Notices that the camera changed: a one-sided cumulative sum of how much further frames are from the running moments than they used to be (Page, 1954). A change makes the running moments forget.</summary>
internal static class MomentCusum
{
    /// <summary>The first sites see the picture itself.</summary>
    public const int Sites = 4;

    private const float Allowance = 0.5f;
    private const float Threshold = 4;
    private const float FramesKept = 4;
    private const float Memory = 32;

    /// <summary>Takes a step's distance and returns the clock, which a change sets back.</summary>
    /// <param name="distance">Mean distance of the step's frames from the running moments at the first sites.</param>
    /// <param name="frames">Frames of the step.</param>
    /// <param name="clock">Frames that the running moments stand for.</param>
    /// <param name="change">The cumulative sum.</param>
    /// <param name="usual">The usual distance.</param>
    public static float Update(float distance, int frames, float clock, ref float change, ref float usual)
    {
        change = Math.Max(0, change + (frames * ((distance / Math.Max(usual, 1)) - 1 - Allowance)));
        if (change > Threshold && clock > 2 * FramesKept)
        {
            (clock, change) = (FramesKept, 0);
        }

        usual += frames / (Memory + frames) * (distance - usual);
        return clock;
    }
}
