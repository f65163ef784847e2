using System.Globalization;
using System.Text.Json;
using Spectre.Console;
using TtaService.Evaluation;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>What <c>tta evaluate</c> prints and writes.</summary>
internal static class EvaluationReport
{
    public static JsonSerializerOptions Json { get; } = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    /// <summary>Which class each folder of the data was taken for.</summary>
    public static void WriteClasses(Terminal terminal, IReadOnlyList<ClassFolder> folders, IReadOnlyList<string> labels)
    {
        if (folders.Count == 0)
        {
            return;
        }

        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("folder", "class", "label", "images");
        foreach (var folder in folders.OrderBy(folder => folder.Class))
        {
            table.AddRow(new Text(folder.Name), new Text(Number(folder.Class)), new Text(labels.ElementAtOrDefault(folder.Class) ?? string.Empty), new Text(Number(folder.Images)));
        }

        terminal.Write(table);

        static string Number(int value) => value.ToString("N0", CultureInfo.InvariantCulture);
    }

    /// <summary>Errors by domain and method for a single combination; else a line a combination, averaged over the domains.</summary>
    public static void WriteTables(Terminal terminal, EvaluationStudy study, IReadOnlyList<EvaluationOutcome> outcomes)
    {
        var groups = outcomes.GroupBy(outcome => (outcome.Cell.Setting, outcome.Cell.Order, outcome.Cell.BatchSize)).ToList();
        var table = new Table { Border = TableBorder.Simple };
        if (groups.Count == 1)
        {
            table.AddColumn("error in % by domain");
            Head(table, study);
            for (var domain = 0; domain < study.Domains.Count; domain++)
            {
                var index = domain;
                Row(table, study, study.Domains[domain].Name, groups[0], outcome => outcome.Error(index));
            }

            Row(table, study, "mean", groups[0], outcome => Mean(study, outcome));
        }
        else
        {
            table.AddColumns("setting", "order", "batch");
            Head(table, study);
            foreach (var group in groups)
            {
                Row(
                    table,
                    study,
                    $"{EvaluationStudy.NameOf(group.Key.Setting)}|{EvaluationStudy.NameOf(group.Key.Order)}|{group.Key.BatchSize}",
                    group,
                    outcome => Mean(study, outcome));
            }
        }

        terminal.Write(table);
        foreach (var refusal in outcomes.Where(outcome => outcome.Refusal is not null).Select(outcome => $"{outcome.Cell.Method}, batch {outcome.Cell.BatchSize}: "
            + $"{outcome.Refusal}").Distinct())
        {
            terminal.Line($"{refusal}");
        }
    }

    /// <summary>A row a combination and domain.</summary>
    public static IReadOnlyList<ReportRow> Rows(EvaluationStudy study, IReadOnlyList<EvaluationOutcome> outcomes) =>
        [.. outcomes.Where(outcome => outcome.Refusal is null).SelectMany(outcome => study.Domains
            .Select((domain, index) => (domain, index))
            .Where(domain => outcome.Frames(domain.index) > 0)
            .Select(domain => new ReportRow(
                EvaluationStudy.NameOf(outcome.Cell.Setting),
                EvaluationStudy.NameOf(outcome.Cell.Order),
                outcome.Cell.BatchSize,
                outcome.Cell.Seed,
                outcome.Cell.Method,
                domain.domain.Name,
                domain.domain.Corruption is null ? 0 : domain.domain.Severity,
                outcome.Frames(domain.index),
                Math.Round(outcome.Error(domain.index), 4))))];

    public static void WriteCsv(TextWriter output, IReadOnlyList<ReportRow> rows)
    {
        output.WriteLine("setting,order,batch_size,seed,method,domain,severity,frames,error_percent");
        foreach (var row in rows)
        {
            var method = row.Method.Replace("\"", "\"\"", StringComparison.Ordinal);
            output.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{row.Setting},{row.Order},{row.BatchSize},{row.Seed},\"{method}\",{row.Domain},{row.Severity},{row.Frames},{row.ErrorPercent}"));
        }
    }

    private static void Head(Table table, EvaluationStudy study)
    {
        foreach (var method in study.Methods)
        {
            table.AddColumn(new TableColumn(new Text(method.Label)).RightAligned());
        }
    }

    private static void Row(Table table, EvaluationStudy study, string head, IEnumerable<EvaluationOutcome> outcomes, Func<EvaluationOutcome, double> error)
    {
        var byMethod = outcomes.ToLookup(outcome => outcome.Cell.Method);
        table.AddRow([.. head.Split('|').Select(text => new Text(text)), .. study.Methods.Select(method => new Text(Cell([.. byMethod[method.Label]], error)))]);
    }

    private static string Cell(EvaluationOutcome[] seeds, Func<EvaluationOutcome, double> error)
    {
        if (Array.Exists(seeds, outcome => outcome.Refusal is not null))
        {
            return "refused";
        }

        var errors = Array.FindAll(Array.ConvertAll(seeds, outcome => error(outcome)), double.IsFinite);
        if (errors.Length == 0)
        {
            return "not run";
        }

        var mean = errors.Average();
        return errors.Length == 1
            ? mean.ToString("0.0", CultureInfo.InvariantCulture)
            : string.Create(CultureInfo.InvariantCulture, $"{mean:0.0} ± {Math.Sqrt(errors.Sum(value => (value - mean) * (value - mean)) / (errors.Length - 1)):0.0}");
    }

    private static double Mean(EvaluationStudy study, EvaluationOutcome outcome) =>
        Enumerable.Range(0, study.Domains.Count).Select(outcome.Error).Where(double.IsFinite).DefaultIfEmpty(double.NaN).Average();

    internal sealed record ReportRow(string Setting, string Order, int BatchSize, int Seed, string Method, string Domain, int Severity, int Frames, double ErrorPercent);
}
