using System.Globalization;
using System.Text;
using TtaService.Evaluation;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>A matrix as a table in Markdown: the error of each method in each cell, and how far the method in question is from the best of the others and from the
/// source.</summary>
/// <param name="method">The method in question.</param>
/// <param name="methods">All methods, in the table's order.</param>
/// <param name="rows">What was measured.</param>
internal sealed class MatrixReport(string method, IReadOnlyList<string> methods, IReadOnlyList<MatrixRow> rows)
{
    // From here on a cell counts as lost.
    private const double Lost = 0.5;

    private readonly IReadOnlyList<MatrixCell> _cells = [.. rows
        .GroupBy(row => (row.Key.Setting, row.Key.Order, row.Key.BatchSize))
        .Select(cell => new MatrixCell(
            cell.Key.Setting,
            cell.Key.Order,
            cell.Key.BatchSize,
            cell.GroupBy(row => row.Key.Method).ToDictionary(group => group.Key, group => group.Average(row => row.ErrorPercent))))];

    /// <summary>The table and what follows from it.</summary>
    public string Markdown()
    {
        var text = new StringBuilder();
        text.Append("| setting | order | frames a step |").AppendJoin("|", methods.Select(name => $" {name} ")).AppendLine("| best other | to it | to source |");
        text.Append("| --- | --- | ---: |").AppendJoin("|", methods.Select(_ => " ---: ")).AppendLine("| --- | ---: | ---: |");
        foreach (var cell in _cells)
        {
            var best = cell.BestBut(method);
            text.Append(
                CultureInfo.InvariantCulture,
                $"| {cell.Setting} | {cell.Order} | {cell.BatchSize} |").AppendJoin("|", methods.Select(name => $" {Number(cell.Of(name), "0.0")} "))
                .AppendLine(
                    CultureInfo.InvariantCulture,
                    $"| {best.Method} | {Number(cell.Of(method) - best.Error, Signed)} | {Number(cell.Of(method) - cell.Of(MatrixCell.Source), Signed)} |");
        }

        return text.ToString();
    }

    /// <summary>Regret over all cells, a line each.</summary>
    public IEnumerable<string> Summary()
    {
        yield return $"error in %, mean over {Cells(_cells.Count)}: "
            + $"{string.Join(", ", methods.Select(name => $"{name} {Number(Mean(_cells.Select(cell => cell.Of(name))), "0.0")}"))}";
        if (Regret("the best other method of each cell", cell => cell.BestBut(method).Error) is { } toBest)
        {
            yield return toBest;
        }

        if (Regret("source", cell => cell.Of(MatrixCell.Source)) is { } toSource)
        {
            yield return toSource;
        }
    }

    private const string Signed = "+0.0;-0.0;0.0";

    private static string Cells(int count) => string.Create(CultureInfo.InvariantCulture, $"{count} cells");

    private static string Number(double value, string format) => double.IsFinite(value) ? value.ToString(format, CultureInfo.InvariantCulture) : "refused";

    private static double Mean(IEnumerable<double> values) => values.Where(double.IsFinite).DefaultIfEmpty(double.NaN).Average();

    private string? Regret(string what, Func<MatrixCell, double> other)
    {
        var regrets = _cells.Select(cell => (Cell: cell, Value: cell.Of(method) - other(cell))).Where(regret => double.IsFinite(regret.Value)).ToList();
        if (regrets.Count == 0)
        {
            return null;
        }

        var (worst, value) = regrets.MaxBy(regret => regret.Value);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{method} against {what}: mean {Mean(regrets.Select(regret => regret.Value)):+0.0;-0.0;0.0}, worst {value:+0.0;-0.0;0.0} ({worst.Setting}, {worst.Order}, "
                + $"{worst.BatchSize} a step), worse by more than {Lost} in {regrets.Count(regret => regret.Value > Lost)} of {Cells(regrets.Count)}");
    }

    private sealed record MatrixCell(string Setting, string Order, int BatchSize, IReadOnlyDictionary<string, double> Errors)
    {
        public const string Source = "source";

        public double Of(string name) => Errors.TryGetValue(name, out var error) ? error : double.NaN;

        public (string Method, double Error) BestBut(string name) =>
            Errors.Where(other => other.Key != name && double.IsFinite(other.Value))
                .Select(other => (other.Key, other.Value))
                .DefaultIfEmpty(("none", double.NaN)).MinBy(other => other.Item2);
    }
}
