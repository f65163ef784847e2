using System.Globalization;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>The rows of a matrix as CSV, to which a run adds what is missing: an interrupted one goes on where it was.</summary>
/// <param name="path">The file; made when it is not there.</param>
internal sealed class MatrixFile(string path)
{
    private const string Head = "model,severity,corruptions,setting,order,batch_size,seed,limit,method,frames,error_percent";
    private const int Fields = 11;
    private const string Refused = "refused";

    /// <summary>The rows that are there.</summary>
    /// <exception cref="CommandException">The file is none of a matrix.</exception>
    public IReadOnlyList<MatrixRow> Read()
    {
        if (!File.Exists(path) || new FileInfo(path).Length == 0)
        {
            return [];
        }

        CutUnfinishedLine();
        var lines = File.ReadAllLines(path);
        if (lines.Length == 0 || lines[0] != Head)
        {
            throw new CommandException($"{path} is no file of a matrix: it begins with '{lines.FirstOrDefault()}', expected '{Head}'; name another with --csv");
        }

        return [.. lines.Skip(1).Select(Parse).OfType<MatrixRow>()];
    }

    /// <summary>Adds rows at the end.</summary>
    public void Append(IEnumerable<MatrixRow> rows)
    {
        var isNew = !File.Exists(path) || new FileInfo(path).Length == 0;
        using var file = new StreamWriter(path, append: true);
        if (isNew)
        {
            file.WriteLine(Head);
        }

        foreach (var (key, frames, error) in rows)
        {
            file.WriteLine(string.Create(
                CultureInfo.InvariantCulture,
                $"{key.Subject.Model},{key.Subject.Severity},{key.Subject.Corruptions},"
                    + $"{key.Setting},{key.Order},{key.BatchSize},{key.Seed},{key.Limit},\"{key.Method}\",{frames},{Error(error)}"));
        }
    }

    // A run that was killed while it wrote leaves half a line, whose figure would read as another one.
    private void CutUnfinishedLine()
    {
        var content = File.ReadAllBytes(path);
        var whole = Array.LastIndexOf(content, (byte)'\n') + 1;
        if (whole > 0 && whole < content.Length)
        {
            using var file = new FileStream(path, FileMode.Open, FileAccess.Write);
            file.SetLength(whole);
        }
    }

    private static string Error(double error) => double.IsNaN(error) ? Refused : error.ToString(CultureInfo.InvariantCulture);

    // A method's expression may hold commas, and stands in quotes.
    private static MatrixRow? Parse(string line)
    {
        var (open, close) = (line.IndexOf('"', StringComparison.Ordinal), line.LastIndexOf('"'));
        if (open < 0 || close <= open)
        {
            return null;
        }

        string[] fields = [.. line[..open].Split(',').SkipLast(1), line[(open + 1)..close], .. line[(close + 1)..].Split(',').Skip(1)];
        return fields.Length == Fields
            && int.TryParse(fields[1], CultureInfo.InvariantCulture, out var severity) && int.TryParse(fields[2], CultureInfo.InvariantCulture, out var corruptions)
            && int.TryParse(fields[5], CultureInfo.InvariantCulture, out var batch) && int.TryParse(fields[6], CultureInfo.InvariantCulture, out var seed)
            && int.TryParse(fields[7], CultureInfo.InvariantCulture, out var limit) && long.TryParse(fields[9], CultureInfo.InvariantCulture, out var frames)
            && Error(fields[10]) is { } error
            ? new MatrixRow(new MatrixKey(new MatrixSubject(fields[0], severity, corruptions), fields[3], fields[4], batch, seed, limit, fields[8]), frames, error)
            : null;
    }

    private static double? Error(string field) =>
        field == Refused ? double.NaN : double.TryParse(field, CultureInfo.InvariantCulture, out var error) ? error : null;
}
