using System.Diagnostics.CodeAnalysis;

namespace TtaService.Evaluation;

/// <summary>How the frames of a domain follow each other.</summary>
public enum StreamOrder
{
    /// <summary>At random.</summary>
    Iid,

    /// <summary>In runs of a class (<see cref="StreamOrders.Correlated"/>).</summary>
    Correlated,

    /// <summary>As the data lie.</summary>
    AsIs,

    /// <summary>Class after class.</summary>
    Sorted,

    /// <summary>Frames of one class only, drawn by the seed; at random.</summary>
    OneClass,

    /// <summary>At random, each class half as frequent as the one before it (<see cref="StreamOrders.Imbalanced"/>).</summary>
    Imbalanced,
}

/// <summary>How domains follow each other.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The protocol's own words.")]
public enum DomainSetting
{
    /// <summary>Each domain is a stream of its own, with a fresh state.</summary>
    Single,

    /// <summary>One stream sees the domains one after another; the state is kept.</summary>
    Continual,

    /// <summary>One stream sees the frames of all domains mixed.</summary>
    Mixed,

    /// <summary>One stream sees the domains in turn, some frames of each, over and over.</summary>
    Recurring,
}

/// <summary>The sample sequences of the published protocols (UnMix-TNS, and the single, continual and mixed settings that its code shares with others).</summary>
public static class EvaluationPlan
{
    /// <summary>Frames of a domain before the next one's turn, in <see cref="DomainSetting.Recurring"/>.</summary>
    public const int RecurringFrames = 96;

    /// <summary>The streams of a setting.</summary>
    /// <param name="labels">The class of each image.</param>
    /// <param name="domains">Number of domains.</param>
    /// <param name="setting">How domains follow each other.</param>
    /// <param name="order">How the frames of a domain follow each other. Every domain has the same order, as published.</param>
    /// <param name="seed">Seeds the order.</param>
    /// <param name="delta">Concentration of the Dirichlet sampler.</param>
    /// <param name="limit">Images a domain, drawn by the seed; the first ones for <see cref="StreamOrder.AsIs"/>. Orders that draw classes give what these have.</param>
    public static IReadOnlyList<IReadOnlyList<EvaluationSample>> Streams(
        IReadOnlyList<int> labels, int domains, DomainSetting setting, StreamOrder order, int seed, double delta = 0.1, int limit = int.MaxValue)
    {
        var chosen = Chosen(labels, order, seed, limit);
        if (setting == DomainSetting.Mixed)
        {
            var pool = Enumerable.Range(0, domains).SelectMany(domain => chosen.Select(image => new EvaluationSample(domain, image))).ToArray();
            return [[.. Ordered([.. pool.Select(sample => labels[sample.Image])], order, seed, delta).Select(at => pool[at])]];
        }

        var sequence = Ordered([.. chosen.Select(image => labels[image])], order, seed, delta).Select(at => chosen[at]).ToArray();
        if (setting == DomainSetting.Recurring)
        {
            return [[.. Recurring(sequence, domains)]];
        }

        var streams = Enumerable.Range(0, domains).Select(domain => sequence.Select(image => new EvaluationSample(domain, image)).ToArray()).ToArray();
        return setting == DomainSetting.Single ? streams : [[.. streams.SelectMany(stream => stream)]];
    }

    private static int[] Chosen(IReadOnlyList<int> labels, StreamOrder order, int seed, int limit) => order switch
    {
        StreamOrder.OneClass => StreamOrders.OneClass(labels, seed, limit),
        StreamOrder.Imbalanced => StreamOrders.Imbalanced(labels, seed, limit),
        _ when order == StreamOrder.AsIs || limit >= labels.Count => [.. Enumerable.Range(0, Math.Min(limit, labels.Count))],
        _ => StreamOrders.Iid(labels.Count, seed)[..limit],
    };

    // Each domain goes on where it was left.
    private static IEnumerable<EvaluationSample> Recurring(int[] sequence, int domains)
    {
        for (var from = 0; from < sequence.Length; from += RecurringFrames)
        {
            for (var domain = 0; domain < domains; domain++)
            {
                foreach (var image in sequence.AsMemory(from, Math.Min(RecurringFrames, sequence.Length - from)).ToArray())
                {
                    yield return new EvaluationSample(domain, image);
                }
            }
        }
    }

    private static int[] Ordered(int[] labels, StreamOrder order, int seed, double delta) => order switch
    {
        StreamOrder.Iid or StreamOrder.OneClass or StreamOrder.Imbalanced => StreamOrders.Iid(labels.Length, seed),
        StreamOrder.Correlated => StreamOrders.Correlated(labels, seed, delta),
        StreamOrder.Sorted => StreamOrders.Correlated(labels, seed, delta: 0),
        _ => [.. Enumerable.Range(0, labels.Length)],
    };
}
