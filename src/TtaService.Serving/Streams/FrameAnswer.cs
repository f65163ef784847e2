namespace TtaService.Serving.Streams;

/// <summary>How a class map is written.</summary>
public enum MaskForm
{
    /// <summary>An indexed PNG.</summary>
    Png,

    /// <summary>Runs of one class, row by row.</summary>
    RunLengths,

    /// <summary>Not at all, only the classes' shares.</summary>
    None,
}

/// <summary>A point of a box, in the frame's pixels.</summary>
/// <param name="X">From the left.</param>
/// <param name="Y">From the top.</param>
/// <param name="Score">0 to 1.</param>
public readonly record struct PointAnswer(float X, float Y, float Score);

/// <summary>A detected object, in the frame's pixels.</summary>
/// <param name="X1">Its left side.</param>
/// <param name="Y1">Its upper side.</param>
/// <param name="X2">Its right side.</param>
/// <param name="Y2">Its lower side.</param>
/// <param name="Class">From 0.</param>
/// <param name="Label">Its class' name; empty when the model has none.</param>
/// <param name="Score">0 to 1.</param>
/// <param name="Points">Its key points; empty of a model without.</param>
public sealed record BoxAnswer(float X1, float Y1, float X2, float Y2, int Class, string Label, float Score, IReadOnlyList<PointAnswer> Points);

/// <summary>A class a pixel of the frame.</summary>
public sealed record MaskAnswer
{
    /// <summary>Set when it was asked for.</summary>
    public byte[]? Png { get; init; }

    /// <summary>The runs' classes; null when they were not asked for.</summary>
    public int[]? RunClasses { get; init; }

    /// <summary>The runs' pixels.</summary>
    public int[]? RunLengths { get; init; }

    /// <summary>Classes that are there, the largest share first.</summary>
    public required IReadOnlyList<ClassScore> Shares { get; init; }
}

/// <summary>What was found in a frame by a model that gives more than classes.</summary>
public sealed record FrameAnswer
{
    /// <summary>Of the frame as it was sent.</summary>
    public required int Width { get; init; }

    /// <summary>Of the frame as it was sent.</summary>
    public required int Height { get; init; }

    /// <summary>Highest score first.</summary>
    public IReadOnlyList<BoxAnswer> Boxes { get; init; } = [];

    /// <summary>Of a segmentation model.</summary>
    public MaskAnswer? Mask { get; init; }

    /// <summary>Of an embedding model: its length is 1.</summary>
    public float[] Embedding { get; init; } = [];

    /// <summary>About how much memory it holds.</summary>
    internal long Bytes
    {
        get
        {
            var bytes = 64L + (sizeof(float) * (long)Embedding.Length);
            foreach (var box in Boxes)
            {
                bytes += 64 + (12L * box.Points.Count);
            }

            return bytes + (Mask is null ? 0 : (Mask.Png?.Length ?? 0) + (8L * (Mask.RunLengths?.Length ?? 0)) + (24L * Mask.Shares.Count));
        }
    }
}
