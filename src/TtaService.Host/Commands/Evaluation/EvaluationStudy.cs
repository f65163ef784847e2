using System.Text.Json;
using TtaService.Evaluation;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>Every combination that a call of <c>tta evaluate</c> asks for.</summary>
internal sealed record EvaluationStudy
{
    public required IReadOnlyList<EvaluationDomain> Domains { get; init; }

    public required IReadOnlyList<MethodChoice> Methods { get; init; }

    public required IReadOnlyList<StreamOrder> Orders { get; init; }

    public required IReadOnlyList<DomainSetting> Settings { get; init; }

    public required IReadOnlyList<int> BatchSizes { get; init; }

    public required IReadOnlyList<int> Seeds { get; init; }

    public required double Delta { get; init; }

    public required int Limit { get; init; }

    public required byte[] Snapshot { get; init; }

    public required bool KeepsLogits { get; init; }

    /// <summary>A value of an enumeration as the user writes it: iid, as-is.</summary>
    public static string NameOf<T>(T value)
        where T : struct, Enum => JsonNamingPolicy.KebabCaseLower.ConvertName(value.ToString());

    /// <summary>Frames of the whole study.</summary>
    public double Frames(IReadOnlyList<int> labels) =>
        (double)Math.Min(Limit, labels.Count) * Domains.Count * Methods.Count * Orders.Count * Settings.Count * BatchSizes.Count * Seeds.Count;

    /// <summary>Runs everything; all streams share passes where their frames are few. Cancelled, it returns what was measured until then.</summary>
    public (IReadOnlyList<EvaluationOutcome> Outcomes, bool IsComplete) Run(Evaluator evaluator, IReadOnlyList<int> labels, IProgress<int>? progress, CancellationToken cancel)
    {
        var cells = new List<(EvaluationCell Cell, List<EvaluationRun> Runs)>();
        foreach (var setting in Settings)
        {
            foreach (var order in Orders)
            {
                foreach (var seed in Seeds)
                {
                    var streams = EvaluationPlan.Streams(labels, Domains.Count, setting, order, seed, Delta, Limit);
                    foreach (var batch in BatchSizes)
                    {
                        foreach (var method in Methods)
                        {
                            var runs = streams.Select(samples => new EvaluationRun
                            {
                                Method = method.Settings,
                                Samples = samples,
                                BatchSize = batch,
                                Seed = (ulong)seed,
                                Snapshot = Snapshot,
                                KeepsLogits = KeepsLogits,
                            });
                            cells.Add((new EvaluationCell(setting, order, batch, method.Label, seed), [.. runs]));
                        }
                    }
                }
            }
        }

        IReadOnlyList<EvaluationResult> results;
        var complete = true;
        try
        {
            results = evaluator.Run([.. cells.SelectMany(cell => cell.Runs)], progress, cancel);
        }
        catch (EvaluationInterruptedException interrupted)
        {
            (results, complete) = (interrupted.Results, false);
        }

        var at = 0;
        return ([.. cells.Select(cell => new EvaluationOutcome(cell.Cell, [.. results.Skip((at += cell.Runs.Count) - cell.Runs.Count).Take(cell.Runs.Count)]))], complete);
    }
}

/// <summary>One combination.</summary>
internal sealed record EvaluationCell(DomainSetting Setting, StreamOrder Order, int BatchSize, string Method, int Seed);

/// <summary>A combination with the results of its streams.</summary>
internal sealed record EvaluationOutcome(EvaluationCell Cell, IReadOnlyList<EvaluationResult> Results)
{
    /// <summary>Why the method did not run; null when it did.</summary>
    public string? Refusal => Results.Select(result => result.Refusal).FirstOrDefault(refusal => refusal is not null);

    /// <summary>Error of a domain in percent; not a number while none of its frames ran.</summary>
    public double Error(int domain) => 100.0 * Results.Sum(result => result.Errors[domain]) / Results.Sum(result => result.Frames[domain]);

    /// <summary>Frames of a domain.</summary>
    public int Frames(int domain) => Results.Sum(result => result.Frames[domain]);
}
