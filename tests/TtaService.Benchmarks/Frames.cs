using TtaService.Engine.Execution;

namespace TtaService.Benchmarks;

internal static class Frames
{
    /// <summary>Normally distributed values [count,3,size,size].</summary>
    public static FrameBlock Random(int count, int size)
    {
        var random = new Random(1);
        var values = new float[count * 3 * size * size];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = (float)((random.NextDouble() + random.NextDouble() + random.NextDouble() - 1.5) * 2);
        }

        return FrameBlock.FromValues(values, count, 3, size, size);
    }
}
