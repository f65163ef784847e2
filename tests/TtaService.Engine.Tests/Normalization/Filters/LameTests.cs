using System.Text.Json.Nodes;
using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Tests.Normalization.Filters;

/// <summary>LAME against its equations, written out in double precision.</summary>
public sealed class LameTests
{
    private const int Classes = 4;
    private const int Features = 6;

    [Theory]
    [InlineData("knn", 3)]
    [InlineData("rbf", 3)]
    [InlineData("linear", 5)]
    [InlineData("knn", 100)]
    [InlineData("rbf", 100)]
    public void Run_AStepOfFrames_FollowsTheEquations(string affinity, int neighbors)
    {
        var (p, f) = Frames(12, seed: 4);
        var filter = Create(new JsonObject { ["lame_memory"] = 0, ["lame_affinity"] = affinity, ["lame_neighbors"] = neighbors });

        Close.Assert(Expected(p, f, affinity, neighbors), Run(filter, p, f, []), 2e-4, affinity);
    }

    [Fact]
    public void Run_OneFrameWithoutMemory_StaysAsItIs()
    {
        var (p, f) = Frames(1, seed: 2);
        var filter = Create(new JsonObject { ["lame_memory"] = 0 });

        Assert.Empty(filter.State);
        Assert.Equal(p, Run(filter, p, f, []));
    }

    [Fact]
    public void Run_SmallSteps_AreJoinedByTheLastFramesOfTheStream()
    {
        const int Memory = 5;
        var (p, f) = Frames(9, seed: 7);
        var filter = Create(new JsonObject { ["lame_memory"] = Memory, ["lame_neighbors"] = 2 });
        var state = new float[filter.State.Sum(tensor => tensor.Length)];
        filter.Initialize(state);
        for (var frame = 0; frame < 9; frame++)
        {
            var answer = Run(filter, p.AsSpan(frame * Classes, Classes).ToArray(), f.AsSpan(frame * Features, Features).ToArray(), state);
            var first = Math.Max(0, frame - Memory + 1);
            var expected = first == frame
                ? [.. p.Skip(frame * Classes).Take(Classes)]
                : Expected(p[(first * Classes)..((frame + 1) * Classes)], f[(first * Features)..((frame + 1) * Features)], "knn", 2)[^Classes..];
            Close.Assert(expected, answer, 2e-4, $"frame {frame}");
        }

        // A step as large as the memory is answered alone, and its last frames are remembered.
        var (more, features) = Frames(8, seed: 9);
        Close.Assert(Expected(more, features, "knn", 2), Run(filter, more, features, state), 2e-4, "a large step");
        Assert.Equal(Memory, state[^1]);
        Assert.Equal(more[^Classes..], state[^(Classes + 1)..^1]);
    }

    [Theory]
    [InlineData(-5f)]
    [InlineData(1e9f)]
    public void Run_ACountThatNoStreamCanHave_IsBounded(float count)
    {
        var (p, f) = Frames(1, seed: 7);
        var filter = Create([]);
        var state = new float[filter.State.Sum(tensor => tensor.Length)];
        state[^1] = count;

        Assert.All(Run(filter, p, f, state), value => Assert.True(float.IsFinite(value)));
        Assert.InRange(state[^1], 1, 8);
    }

    private static IPredictionFilter Create(JsonObject hyperparameters)
    {
        var settings = MethodSettings.Create("source+lame", hyperparameters);
        return settings.Definition.Filter!.Create(settings, new MethodTarget([], Classes) { Features = Features });
    }

    private static float[] Run(IPredictionFilter filter, float[] probabilities, float[] features, float[] state)
    {
        var answer = new float[probabilities.Length];
        filter.Run(new FilterStep { Classes = Classes, Probabilities = probabilities, Features = features, State = state, Answer = answer });
        return answer;
    }

    private static (float[] Probabilities, float[] Features) Frames(int count, int seed)
    {
        var random = new Random(seed);
        float[] features = [.. Enumerable.Range(0, count * Features).Select(_ => random.NextSingle() - 0.2f)];
        float[] scores = [.. Enumerable.Range(0, count * Classes).Select(_ => MathF.Exp(4 * random.NextSingle()))];
        float[] sums = [.. scores.Chunk(Classes).Select(row => row.Sum())];
        return ([.. scores.Select((score, i) => score / sums[i / Classes])], features);
    }

    private static float[] Expected(float[] p, float[] f, string affinity, int neighbors)
    {
        var n = p.Length / Classes;
        var unit = f.Chunk(Features).Select(row => row.Select(x => x / Math.Sqrt(row.Sum(y => (double)y * y))).ToArray()).ToArray();
        double Distance(int i, int j) => Math.Sqrt(unit[i].Zip(unit[j], (a, b) => (a - b) * (a - b)).Sum());
        var bandwidth = Enumerable.Range(0, n).Average(i => Enumerable.Range(0, n).Select(j => Distance(i, j)).Order().ElementAt(Math.Min(neighbors, n) - 1));
        double Weight(int i, int j) => affinity switch
        {
            "linear" => unit[i].Zip(unit[j], (a, b) => a * b).Sum(),
            "rbf" => Math.Exp(-Distance(i, j) * Distance(i, j) / (2 * bandwidth * bandwidth)),
            _ => i != j && Enumerable.Range(0, n).Where(k => k != i).OrderBy(k => Distance(i, k)).Take(neighbors).Contains(j) ? 1 : 0,
        };
        var weights = Enumerable.Range(0, n).Select(i => Enumerable.Range(0, n).Select(j => Weight(i, j)).ToArray()).ToArray();
        var y = p.Chunk(Classes).Select(row => row.Select(value => (double)value).ToArray()).ToArray();
        for (var round = 0; round < 100; round++)
        {
            var pulled = weights.Select(row => Enumerable.Range(0, Classes).Select(k => row.Select((weight, j) => weight * y[j][k]).Sum()).ToArray()).ToArray();
            y = [.. pulled.Select((row, i) =>
            {
                double[] exponents = [.. row.Select((value, k) => Math.Exp(Math.Log(p[(i * Classes) + k] + 1e-10) + value))];
                return exponents.Select(value => value / exponents.Sum()).ToArray();
            })];
        }

        return [.. y.SelectMany(row => row.Select(value => (float)value))];
    }
}
