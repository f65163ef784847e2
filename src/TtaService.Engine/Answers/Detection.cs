namespace TtaService.Engine.Answers;

/// <summary>A point of a detected object.</summary>
/// <param name="X">In pixels.</param>
/// <param name="Y">In pixels.</param>
/// <param name="Score">As the model gives it; 1 where it gives none.</param>
public readonly record struct Keypoint(float X, float Y, float Score);

/// <summary>A detected object, in pixels of the model's input.</summary>
/// <param name="X1">Left.</param>
/// <param name="Y1">Top.</param>
/// <param name="X2">Right.</param>
/// <param name="Y2">Bottom.</param>
/// <param name="Class">From 0.</param>
/// <param name="Score">0 to 1.</param>
/// <param name="Points">Empty for a detector.</param>
public readonly record struct Detection(float X1, float Y1, float X2, float Y2, int Class, float Score, IReadOnlyList<Keypoint> Points);
