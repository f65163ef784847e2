using TtaService.Engine.Streams;

namespace TtaService.Host.Commands.Snapshots;

/// <summary>A tensor's values in short.</summary>
internal sealed record TensorRange(string Name, int[] Shape, double Min, double Mean, double Max);

/// <summary>How far two tensors of one name are apart.</summary>
/// <param name="Name">The tensor.</param>
/// <param name="Largest">Largest absolute difference of two values.</param>
/// <param name="RootMeanSquare">Of the first tensor's values.</param>
/// <param name="Relative">Root mean square of the differences by that of the first tensor; infinite when one lacks it.</param>
/// <param name="Problem">Why they can't be compared; null when they can.</param>
internal sealed record TensorDifference(string Name, double Largest, double RootMeanSquare, double Relative, string? Problem);

/// <summary>Reads and compares the tensors of plain snapshots.</summary>
internal static class SnapshotTensors
{
    public static IReadOnlyList<TensorRange> Ranges(byte[] snapshot)
    {
        var content = Safetensors.Read(snapshot);
        return [.. content.Names.Select(name =>
        {
            var values = Values(content, snapshot, name);
            return new TensorRange(name, content.Shape(name), values.Min(), values.Average(value => (double)value), values.Max());
        })];
    }

    /// <summary>The metadata that differ, each with both values.</summary>
    public static IReadOnlyDictionary<string, string[]> DifferingMetadata(byte[] first, byte[] second)
    {
        var (a, b) = (Safetensors.Read(first).Metadata, Safetensors.Read(second).Metadata);
        return a.Keys.Union(b.Keys)
            .Where(key => a.GetValueOrDefault(key) != b.GetValueOrDefault(key))
            .ToDictionary(key => key, key => new[] { a.GetValueOrDefault(key) ?? "(none)", b.GetValueOrDefault(key) ?? "(none)" });
    }

    /// <summary>All tensors of either, the largest relative difference first.</summary>
    public static IReadOnlyList<TensorDifference> Compare(byte[] first, byte[] second)
    {
        var (a, b) = (Safetensors.Read(first), Safetensors.Read(second));
        return [.. a.Names.Union(b.Names).Select(name => Compare(a, first, b, second, name)).OrderByDescending(difference => difference.Relative)];
    }

    private static TensorDifference Compare(Safetensors a, byte[] first, Safetensors b, byte[] second, string name)
    {
        if (!a.Contains(name) || !b.Contains(name))
        {
            return Incomparable(name, a.Contains(name) ? "only in the first" : "only in the second");
        }

        if (!a.Shape(name).AsSpan().SequenceEqual(b.Shape(name)))
        {
            return Incomparable(name, $"[{string.Join(',', a.Shape(name))}] and [{string.Join(',', b.Shape(name))}]");
        }

        var (x, y) = (Values(a, first, name), Values(b, second, name));
        var (largest, squares, differences) = (0.0, 0.0, 0.0);
        for (var i = 0; i < x.Length; i++)
        {
            var difference = (double)y[i] - x[i];
            largest = Math.Max(largest, Math.Abs(difference));
            squares += (double)x[i] * x[i];
            differences += difference * difference;
        }

        return new TensorDifference(name, largest, Math.Sqrt(squares / Math.Max(1, x.Length)), differences == 0 ? 0 : Math.Sqrt(differences / squares), null);
    }

    private static TensorDifference Incomparable(string name, string problem) => new(name, double.PositiveInfinity, 0, double.PositiveInfinity, problem);

    private static float[] Values(Safetensors content, byte[] file, string name)
    {
        var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        content.CopyTo(file, name, values);
        return values;
    }
}
