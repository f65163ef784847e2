namespace TtaService.Engine.Answers;

/// <summary>What the four numbers of a box are.</summary>
public enum BoxForm
{
    /// <summary>x1, y1, x2, y2.</summary>
    Corners,

    /// <summary>Centre x, centre y, width, height.</summary>
    CenterSize,

    /// <summary>x1, y1, width, height.</summary>
    CornerSize,

    /// <summary>y1, x1, y2, x2, as TensorFlow has them.</summary>
    CornersYFirst,
}

/// <summary>What boxes are measured in.</summary>
public enum BoxUnit
{
    /// <summary>Pixels of the model's input.</summary>
    Pixels,

    /// <summary>Shares of the input's width and height.</summary>
    Fractions,
}

/// <summary>How boxes are read from a detector's outputs. Immutable.</summary>
public sealed record DetectionSettings
{
    /// <summary>Most boxes of a frame that can be asked for.</summary>
    public const int MostBoxes = 1000;

    /// <summary>Most candidates that can be set.</summary>
    public const int MostCandidates = 30_000;

    /// <summary>Boxes of a score above it are answered, 0 to 1. Default 0.25.</summary>
    public float ScoreThreshold { get; init; } = 0.25f;

    /// <summary>Of two boxes of a class that overlap by more than this (intersection over union, 0 to 1) the one with the lower score goes. Default 0.45.</summary>
    public float IouThreshold { get; init; } = 0.45f;

    /// <summary>Most boxes of a frame, highest scores first. Default 300.</summary>
    public int MaxBoxes { get; init; } = 300;

    /// <summary>Most boxes that are compared with each other, highest scores first: bounds what a frame costs. Default 4096.</summary>
    public int MaxCandidates { get; init; } = 4096;

    /// <summary>Boxes of different classes suppress each other, too. Default false.</summary>
    public bool ClassAgnostic { get; init; }

    /// <summary>Of outputs of kind boxes. Default null: corners.</summary>
    public BoxForm? Form { get; init; }

    /// <summary>Of outputs of kind boxes. Default null: told by a first pass.</summary>
    public BoxUnit? Unit { get; init; }

    /// <summary>The class that stands for nothing, never answered. Default null: there is none.</summary>
    public int? Background { get; init; }

    /// <summary>Points of a box and the numbers of each: 2 (x, y) or 3 (x, y, score). Default null: told by the metadata or the shapes.</summary>
    public (int Points, int Values)? Keypoints { get; init; }
}
