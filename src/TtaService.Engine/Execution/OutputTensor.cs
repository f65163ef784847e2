namespace TtaService.Engine.Execution;

/// <summary>One output of the model for the frames of a step.</summary>
/// <param name="Name">The graph output's name.</param>
/// <param name="Shape">[N, ...].</param>
/// <param name="Values">Row-major.</param>
public sealed record OutputTensor(string Name, int[] Shape, float[] Values)
{
    /// <summary>By frame: how many entries of the second axis are its own, as the boxes of a detector that suppresses by itself; zeros follow them. Empty where all
    /// are.</summary>
    public IReadOnlyList<int> Entries { get; init; } = [];

    private int FrameFloats => Shape[0] == 0 ? 0 : Values.Length / Shape[0];

    /// <summary>The same for some of the frames.</summary>
    /// <param name="first">The first of them.</param>
    /// <param name="count">How many they are.</param>
    public OutputTensor Part(int first, int count) => first == 0 && count == Shape[0] ? this : this with
    {
        Shape = [count, .. Shape.AsSpan(1)],
        Values = Values.AsSpan(first * FrameFloats, count * FrameFloats).ToArray(),
        Entries = Entries.Count == 0 ? [] : [.. Entries.Skip(first).Take(count)],
    };

    /// <summary>A clip's answer for each of its frames.</summary>
    internal OutputTensor ForFrames(int clipFrames) => clipFrames == 1 || Shape.Length == 0 ? this : this with
    {
        Shape = [Shape[0] * clipFrames, .. Shape.AsSpan(1)],
        Values = [.. Enumerable.Range(0, Shape[0] * clipFrames).SelectMany(frame => Values.Skip(frame / clipFrames * FrameFloats).Take(FrameFloats))],
        Entries = [.. Entries.SelectMany(entries => Enumerable.Repeat(entries, clipFrames))],
    };

    /// <summary>A frame's values; empty for an output without frames.</summary>
    internal ReadOnlyMemory<float> OfFrame(int frame) =>
        Values.AsMemory(frame * FrameFloats, Entries.Count == 0 ? FrameFloats : Entries[frame] * (FrameFloats / Math.Max(1, Shape[1])));

    /// <summary>How many entries of the second axis a frame has; 1 where there is none.</summary>
    internal int EntriesOf(int frame) => Entries.Count > 0 ? Entries[frame] : Shape.Length > 1 ? Shape[1] : 1;

    /// <summary>The frames of all parts, one part behind the other; null where more than the second axis tells them apart.</summary>
    internal static OutputTensor? Join(IReadOnlyList<OutputTensor> parts)
    {
        var first = parts[0];
        if (parts.Any(part => part.Shape.Length != first.Shape.Length || !part.Shape.Skip(2).SequenceEqual(first.Shape.Skip(2))))
        {
            return null;
        }

        var frames = parts.Sum(part => part.Shape[0]);
        if (first.Shape.Length < 2 || parts.All(part => part.Entries.Count == 0 && part.Shape[1] == first.Shape[1]))
        {
            return new OutputTensor(first.Name, [frames, .. first.Shape.AsSpan(1)], [.. parts.SelectMany(part => part.Values)]);
        }

        int[] entries = [.. parts.SelectMany(part => Enumerable.Range(0, part.Shape[0]).Select(part.EntriesOf))];
        int[] shape = [frames, entries.Max(), .. first.Shape.AsSpan(2)];
        var floats = shape.Skip(1).Aggregate(1, (product, extent) => checked(product * extent));
        var values = new float[checked(frames * floats)];
        var at = 0;
        foreach (var part in parts)
        {
            for (var frame = 0; frame < part.Shape[0]; frame++)
            {
                part.OfFrame(frame).Span.CopyTo(values.AsSpan(at));
                at += floats;
            }
        }

        return new OutputTensor(first.Name, shape, values) { Entries = entries };
    }
}
