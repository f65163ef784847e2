namespace TtaService.Engine.Answers;

/// <summary>A box before suppression: where it lies, and where the rest of it is found.</summary>
/// <param name="X1">Left.</param>
/// <param name="Y1">Top.</param>
/// <param name="X2">Right.</param>
/// <param name="Y2">Bottom.</param>
/// <param name="Class">From 0.</param>
/// <param name="Score">0 to 1.</param>
/// <param name="Row">Its place in the output.</param>
internal readonly record struct Candidate(float X1, float Y1, float X2, float Y2, int Class, float Score, int Row)
{
    public float Area => Math.Max(0, X2 - X1) * Math.Max(0, Y2 - Y1);
}

/// <summary>Greedy suppression of boxes that overlap, as torchvision.ops.batched_nms.</summary>
internal static class NonMaximumSuppression
{
    /// <summary>Those that stay, highest scores first; each is compared with those that stay only, so the cost is candidates times <paramref name="most"/>.</summary>
    /// <param name="ordered">Highest scores first.</param>
    /// <param name="iou">Overlap above which the lower one goes.</param>
    /// <param name="agnostic">Boxes of different classes suppress each other.</param>
    /// <param name="most">How many may stay.</param>
    public static List<Candidate> Keep(IReadOnlyList<Candidate> ordered, float iou, bool agnostic, int most)
    {
        var kept = new List<Candidate>();
        foreach (var candidate in ordered)
        {
            if (kept.Count == most)
            {
                break;
            }

            var stays = true;
            foreach (var other in kept)
            {
                if ((agnostic || other.Class == candidate.Class) && Overlap(other, candidate) > iou)
                {
                    stays = false;
                    break;
                }
            }

            if (stays)
            {
                kept.Add(candidate);
            }
        }

        return kept;
    }

    /// <summary>Intersection over union, 0 for boxes without an area.</summary>
    public static float Overlap(in Candidate a, in Candidate b)
    {
        var width = Math.Min(a.X2, b.X2) - Math.Max(a.X1, b.X1);
        var height = Math.Min(a.Y2, b.Y2) - Math.Max(a.Y1, b.Y1);
        if (width <= 0 || height <= 0)
        {
            return 0;
        }

        var common = width * height;
        return common / (a.Area + b.Area - common);
    }
}
