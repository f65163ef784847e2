using Spectre.Console;
using TtaService.Engine.Execution;
using TtaService.Evaluation;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>What a user asked of a matrix; null for its defaults.</summary>
internal sealed record MatrixChoices
{
    public string? Data { get; init; }

    public IReadOnlyList<MethodChoice>? Methods { get; init; }

    public IReadOnlyList<StreamOrder>? Orders { get; init; }

    public IReadOnlyList<DomainSetting>? Settings { get; init; }

    public IReadOnlyList<int>? BatchSizes { get; init; }

    public IReadOnlyList<int>? Seeds { get; init; }

    public double? Delta { get; init; }

    public int? Limit { get; init; }

    public required IReadOnlyList<EvaluationDomain> Domains { get; init; }

    public required int Severity { get; init; }

    public string? Csv { get; init; }

    public string? Markdown { get; init; }
}

/// <summary><c>tta evaluate --matrix</c>: runs what the file lacks, adds it, and reports the whole.</summary>
internal static class MatrixRun
{
    private const string DefaultCsv = "matrix.csv";
    private const int DefaultLimit = 256;
    private const int DigestDigits = 8;
    private static readonly string[] Published = ["source", "tbn", "alpha_bn", "prior", "ema", "tbr", "adaptive", "iabn", "unmix_tns"];

    public static int Run(Terminal terminal, ModelLocation location, AdaptiveModel model, MatrixChoices choices, CancellationToken cancel)
    {
        EvaluationDomain[] domains = [new(null, choices.Severity), .. choices.Domains.Where(domain => domain.Corruption is not null)];
        if (domains.Length == 1)
        {
            throw CommandException.WrongUse("--matrix needs at least one corruption besides the clean frames; name some with --corruptions, or leave it out");
        }

        var own = Own(location, model);
        var study = new MatrixStudy
        {
            Domains = domains,
            Methods = choices.Methods ?? [.. Published.Where(name => name != own.Label).Select(name => MethodExpressions.ParseSingle(name, location.Methods)), own],
            Orders = Orders(choices),
            Settings = choices.Settings ?? Enum.GetValues<DomainSetting>(),
            BatchSizes = choices.BatchSizes ?? [1, 4, 16, 64],
            Seeds = choices.Seeds ?? [0, 1, 2],
            Limit = choices.Limit ?? DefaultLimit,
            Subject = new MatrixSubject($"{location.Folder?.Name}-{model.Digest[..DigestDigits]}", choices.Severity, domains.Length - 1),
        };
        foreach (var method in study.Methods)
        {
            if (model.WhyUnavailable(method.Settings) is { } reason)
            {
                throw new CommandException($"{method.Label}: {reason}");
            }
        }

        var file = new MatrixFile(choices.Csv ?? DefaultCsv);
        var rows = file.Read().ToDictionary(row => row.Key);
        var frames = EvaluationData.Open(location, model, choices.Data, domains);
        var missing = study.Missing(frames.Labels, rows.Keys.ToHashSet());
        var evaluator = new Evaluator(model, frames);
        terminal.Line($"{missing.Sum(group => group.Cells.Count)} cells to run, {rows.Count} are in {choices.Csv ?? DefaultCsv}");
        Progress(terminal, missing, (group, progress) =>
        {
            var done = study.Run(evaluator, group, progress, cancel);
            file.Append(done);
            foreach (var row in done)
            {
                rows[row.Key] = row;
            }
        });

        string[] labels = [.. study.Methods.Select(method => method.Label)];
        var asked = study.Missing(frames.Labels, new HashSet<MatrixKey>()).SelectMany(group => group.Cells).Select(key => rows[key]);
        var report = new MatrixReport(labels.Contains(own.Label) ? own.Label : labels[^1], labels, [.. asked]);
        var text = report.Markdown();
        if (choices.Markdown is null or "-")
        {
            terminal.Output.Write(text);
        }
        else
        {
            File.WriteAllText(choices.Markdown, text);
        }

        foreach (var line in report.Summary())
        {
            terminal.Line($"{line}");
        }

        return 0;
    }

    private static MethodChoice Own(ModelLocation location, AdaptiveModel model)
    {
        var method = (location.Folder ?? throw CommandException.WrongUse("--matrix needs a model folder, whose model.json names the model's own method")).DefaultMethod(model);
        return new MethodChoice(method.Name, method, []);
    }

    private static IReadOnlyList<MatrixOrder> Orders(MatrixChoices choices)
    {
        if (choices.Orders is null)
        {
            return MatrixOrder.All;
        }

        return [.. choices.Orders.Select(order => new MatrixOrder(
            order == StreamOrder.Correlated && choices.Delta is { } delta and not 0.1
                ? FormattableString.Invariant($"correlated-{delta}")
                : EvaluationStudy.NameOf(order), order, choices.Delta ?? 0.1))];
    }

    private static void Progress(Terminal terminal, IReadOnlyList<MatrixGroup> groups, Action<MatrixGroup, IProgress<int>?> run)
    {
        if (!terminal.IsInteractive)
        {
            for (var at = 0; at < groups.Count; at++)
            {
                terminal.Error.WriteLine($"{at + 1} of {groups.Count}: {groups[at].Cells[0].Setting}, {groups[at].Cells[0].Order}, seed {groups[at].Cells[0].Seed}");
                run(groups[at], null);
            }

            return;
        }

        terminal.Console.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).Start(context =>
        {
            var task = context.AddTask("frames", maxValue: groups.Sum(group => (double)group.Frames));
            var counting = new Counting(task);
            foreach (var group in groups)
            {
                run(group, counting);
            }
        });
    }

    private sealed class Counting(ProgressTask task) : IProgress<int>
    {
        public void Report(int value) => task.Increment(value);
    }
}
