namespace TtaService.Evaluation;

/// <summary>In which order the samples of a test set arrive.</summary>
public static class StreamOrders
{
    private const int MinChunk = 10;
    private const int Attempts = 1000;

    /// <summary>A random order: independent and identically distributed.</summary>
    public static int[] Iid(int count, int seed)
    {
        var order = Enumerable.Range(0, count).ToArray();
        new Random(seed).Shuffle(order);
        return order;
    }

    /// <summary>Samples of one class, drawn by the seed.</summary>
    /// <param name="labels">The class of each sample, from 0.</param>
    /// <param name="seed">Draws the class and the samples.</param>
    /// <param name="limit">Most samples.</param>
    public static int[] OneClass(IReadOnlyList<int> labels, int seed, int limit)
    {
        var classes = labels.Distinct().Order().ToArray();
        var drawn = classes[new Random(seed).Next(classes.Length)];
        return [.. Iid(labels.Count, seed).Where(index => labels[index] == drawn).Take(limit)];
    }

    /// <summary>Independent samples of classes that are not equally frequent: each half as frequent as the one before it, in an order drawn by the seed.</summary>
    /// <param name="labels">The class of each sample, from 0.</param>
    /// <param name="seed">Draws the order of the classes and the samples.</param>
    /// <param name="limit">Most samples; fewer where a frequent class has too few.</param>
    public static int[] Imbalanced(IReadOnlyList<int> labels, int seed, int limit)
    {
        var classes = labels.Distinct().Order().ToArray();
        var random = new Random(seed);
        random.Shuffle(classes);
        var shuffled = Iid(labels.Count, seed).ToLookup(index => labels[index]);
        var total = Math.Min(limit, 2 * shuffled[classes[0]].Count());
        List<int> samples = [];
        for (var rank = 0; rank < classes.Length; rank++)
        {
            samples.AddRange(shuffled[classes[rank]].Take((int)Math.Round(total * Math.Pow(0.5, rank + 1))));
        }

        var order = samples.ToArray();
        random.Shuffle(order);
        return order;
    }

    /// <summary>Temporally correlated: long runs of one class, by the Dirichlet sampler of NOTE (Gong et al., NeurIPS 2022) as UnMix-TNS uses it.</summary>
    /// <param name="labels">The class of each sample, from 0.</param>
    /// <param name="seed">Seeds the order.</param>
    /// <param name="delta">Concentration, more than 0; the smaller the more correlated. 0 sorts by class.</param>
    public static int[] Correlated(IReadOnlyList<int> labels, int seed, double delta = 0.1)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(delta);
        if (delta == 0)
        {
            return [.. Enumerable.Range(0, labels.Count).OrderBy(index => labels[index])];
        }

        var random = new Random(seed);
        var classes = labels.Max() + 1;
        var byClass = Enumerable.Range(0, classes).Select(_ => new List<int>()).ToArray();
        foreach (var index in Iid(labels.Count, seed))
        {
            byClass[labels[index]].Add(index);
        }

        // Small sets can't fill every chunk.
        var least = Math.Min(MinChunk, labels.Count / (2 * classes));
        List<(int Class, int[] Samples)>[] chunks = [];
        for (var attempt = 0; attempt < Attempts; attempt++)
        {
            chunks = Split(byClass, labels.Count, delta, random);
            if (Array.TrueForAll(chunks, chunk => chunk.Sum(part => part.Samples.Length) >= least))
            {
                break;
            }
        }

        var order = new List<int>(labels.Count);
        foreach (var chunk in chunks)
        {
            var parts = chunk.ToArray();
            random.Shuffle(parts);
            order.AddRange(parts.SelectMany(part => part.Samples));
        }

        return [.. order];
    }

    // As many chunks as classes; a full chunk gets nothing more.
    private static List<(int Class, int[] Samples)>[] Split(List<int>[] byClass, int count, double delta, Random random)
    {
        var chunks = byClass.Select(_ => new List<(int Class, int[] Samples)>()).ToArray();
        var sizes = new int[chunks.Length];
        for (var k = 0; k < byClass.Length; k++)
        {
            var samples = byClass[k].ToArray();
            if (samples.Length == 0)
            {
                // A sparse labelling has many such classes, and each costs a draw for every chunk.
                continue;
            }

            random.Shuffle(samples);
            var shares = new double[chunks.Length];
            for (var j = 0; j < shares.Length; j++)
            {
                var share = Gamma(delta, random);
                shares[j] = sizes[j] < (double)count / chunks.Length ? share : 0;
            }

            var total = shares.Sum();
            if (total <= 0)
            {
                // Underflow of every open chunk's share: one of them takes all.
                shares[Array.FindIndex(sizes, size => size < (double)count / chunks.Length)] = total = 1;
            }

            var (sum, start) = (0.0, 0);
            for (var j = 0; j < chunks.Length; j++)
            {
                sum += shares[j] / total;
                var end = j == chunks.Length - 1 ? samples.Length : Math.Min(samples.Length, (int)(sum * samples.Length));
                if (end > start)
                {
                    chunks[j].Add((k, samples[start..end]));
                    sizes[j] += end - start;
                    start = end;
                }
            }
        }

        return chunks;
    }

    // Marsaglia and Tsang (2000), with the boost for shapes below 1.
    private static double Gamma(double shape, Random random)
    {
        if (shape < 1)
        {
            return Gamma(shape + 1, random) * Math.Pow(1 - random.NextDouble(), 1 / shape);
        }

        var d = shape - (1.0 / 3);
        var c = 1 / Math.Sqrt(9 * d);
        while (true)
        {
            var x = random.NextNormal();
            var v = Math.Pow(1 + (c * x), 3);
            if (v > 0 && Math.Log(1 - random.NextDouble()) < (0.5 * x * x) + d - (d * v) + (d * Math.Log(v)))
            {
                return d * v;
            }
        }
    }
}

internal static class RandomExtensions
{
    /// <summary>A standard normal number (Box-Muller).</summary>
    public static double NextNormal(this Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
}
