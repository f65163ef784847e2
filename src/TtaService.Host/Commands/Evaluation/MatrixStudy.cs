using TtaService.Evaluation;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>What <c>tta evaluate --matrix</c> runs: every setting, order, number of frames a step and seed, of the corrupted domains and of clean frames.</summary>
internal sealed record MatrixStudy
{
    /// <summary>The setting of the frames as they are.</summary>
    public const string Clean = "clean";

    // Besides the clean one: how many domains come back in turn.
    private const int RecurringDomains = 2;

    /// <summary>The domains; the first is the clean one.</summary>
    public required IReadOnlyList<EvaluationDomain> Domains { get; init; }

    public required IReadOnlyList<MethodChoice> Methods { get; init; }

    public required IReadOnlyList<MatrixOrder> Orders { get; init; }

    public required IReadOnlyList<DomainSetting> Settings { get; init; }

    public required IReadOnlyList<int> BatchSizes { get; init; }

    public required IReadOnlyList<int> Seeds { get; init; }

    public required int Limit { get; init; }

    /// <summary>Which model and which corruptions; rows of others are left alone.</summary>
    public required MatrixSubject Subject { get; init; }

    /// <summary>Cells that are still to be run, in groups that share their streams.</summary>
    public IReadOnlyList<MatrixGroup> Missing(IReadOnlyList<int> labels, IReadOnlySet<MatrixKey> known)
    {
        var groups = new List<MatrixGroup>();
        foreach (var setting in Settings.Select(EvaluationStudy.NameOf).Append(Clean))
        {
            foreach (var order in Orders)
            {
                foreach (var seed in Seeds)
                {
                    var cells = (from batch in BatchSizes
                                 from method in Methods
                                 select new MatrixKey(
                        Subject,
                        setting,
                        order.Name,
                        batch,
                        seed,
                        Limit,
                        method.Label)).Where(key => !known.Contains(key)).ToList();
                    if (cells.Count > 0)
                    {
                        groups.Add(new MatrixGroup(cells, Streams(labels, setting, order, seed)));
                    }
                }
            }
        }

        return groups;
    }

    /// <summary>Runs a group's cells; their streams share passes.</summary>
    public IReadOnlyList<MatrixRow> Run(Evaluator evaluator, MatrixGroup group, IProgress<int>? progress, CancellationToken cancel)
    {
        var settings = Methods.ToDictionary(method => method.Label, method => method.Settings);
        var runs = group.Cells.SelectMany(key => group.Streams.Select(samples =>
            new EvaluationRun { Method = settings[key.Method], Samples = samples, BatchSize = key.BatchSize, Seed = (ulong)key.Seed })).ToList();
        var results = evaluator.Run(runs, progress, cancel);
        return [.. group.Cells.Select((key, at) => MatrixRow.Of(key, [.. results.Skip(at * group.Streams.Count).Take(group.Streams.Count)]))];
    }

    private IReadOnlyList<IReadOnlyList<EvaluationSample>> Streams(IReadOnlyList<int> labels, string setting, MatrixOrder order, int seed)
    {
        var corrupted = Enumerable.Range(1, Domains.Count - 1).ToArray();
        int[] domains = setting == Clean ? [0]
            : setting == EvaluationStudy.NameOf(DomainSetting.Recurring) ? [0, .. Drawn(corrupted, seed)]
            : corrupted;
        var kind = setting == Clean ? DomainSetting.Single : Settings.First(known => EvaluationStudy.NameOf(known) == setting);
        return [.. EvaluationPlan.Streams(
            labels,
            domains.Length,
            kind,
            order.Order,
            seed,
            order.Delta,
            Limit).Select(stream => stream.Select(sample => sample with { Domain = domains[sample.Domain] }).ToArray())];
    }

    private static int[] Drawn(int[] domains, int seed)
    {
        int[] shuffled = [.. domains];
        new Random(seed).Shuffle(shuffled);
        return [.. shuffled.Take(RecurringDomains)];
    }
}

/// <summary>An order of frames.</summary>
/// <param name="Name">As the table names it.</param>
/// <param name="Order">The order.</param>
/// <param name="Delta">Concentration of the Dirichlet sampler.</param>
internal sealed record MatrixOrder(string Name, StreamOrder Order, double Delta)
{
    /// <summary>Every order: independent, in runs, in long runs, sorted, one class only, imbalanced.</summary>
    public static IReadOnlyList<MatrixOrder> All { get; } =
    [
        new("iid", StreamOrder.Iid, 0.1), new("correlated", StreamOrder.Correlated, 0.1), new("correlated-0.01", StreamOrder.Correlated, 0.01),
        new("sorted", StreamOrder.Sorted, 0), new("one-class", StreamOrder.OneClass, 0), new("imbalanced", StreamOrder.Imbalanced, 0),
    ];
}

/// <summary>Of what a matrix is.</summary>
/// <param name="Model">The model's name and the start of its digest.</param>
/// <param name="Severity">Of the corruptions.</param>
/// <param name="Corruptions">How many.</param>
internal sealed record MatrixSubject(string Model, int Severity, int Corruptions);

/// <summary>A cell of the matrix and a method.</summary>
internal sealed record MatrixKey(MatrixSubject Subject, string Setting, string Order, int BatchSize, int Seed, int Limit, string Method);

/// <summary>Cells that see the same streams.</summary>
internal sealed record MatrixGroup(IReadOnlyList<MatrixKey> Cells, IReadOnlyList<IReadOnlyList<EvaluationSample>> Streams)
{
    public long Frames => (long)Cells.Count * Streams.Sum(stream => stream.Count);
}

/// <summary>What a cell gave.</summary>
/// <param name="Key">The cell.</param>
/// <param name="Frames">Frames that ran.</param>
/// <param name="ErrorPercent">Mean over domains; not a number where the method refused such steps.</param>
internal sealed record MatrixRow(MatrixKey Key, long Frames, double ErrorPercent)
{
    public static MatrixRow Of(MatrixKey key, IReadOnlyList<EvaluationResult> results)
    {
        if (results.Any(result => result.Refusal is not null))
        {
            return new MatrixRow(key, 0, double.NaN);
        }

        var domains = Enumerable.Range(0, results[0].Frames.Length)
            .Select(domain => (Frames: results.Sum(result => result.Frames[domain]), Errors: results.Sum(result => result.Errors[domain])))
            .Where(domain => domain.Frames > 0).ToList();
        return new MatrixRow(key, domains.Sum(domain => (long)domain.Frames), Math.Round(domains.Average(domain => 100.0 * domain.Errors / domain.Frames), 4));
    }
}
