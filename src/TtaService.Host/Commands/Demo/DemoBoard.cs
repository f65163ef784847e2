using System.Globalization;
using Spectre.Console;

namespace TtaService.Host.Commands.Demo;

/// <summary>The demo's table: live on a terminal, otherwise a line now and then and the table at the end.</summary>
internal sealed class DemoBoard(Terminal terminal, TimeProvider time, string method, IReadOnlyList<CameraScore> scores)
{
    private static readonly TimeSpan Refresh = TimeSpan.FromMilliseconds(250);
    private static readonly TimeSpan LineInterval = TimeSpan.FromSeconds(5);
    private readonly long _started = time.GetTimestamp();

    /// <summary>Shows the cameras until they have stopped, then the summary.</summary>
    public async Task ShowAsync(Task cameras)
    {
        if (terminal.IsInteractive)
        {
            await terminal.Console.Live(Table()).StartAsync(async live =>
            {
                while (!cameras.IsCompleted)
                {
                    await Task.WhenAny(cameras, Task.Delay(Refresh, time)).ConfigureAwait(false);
                    live.UpdateTarget(Table());
                }
            }).ConfigureAwait(false);
        }
        else
        {
            while (!cameras.IsCompleted)
            {
                await Task.WhenAny(cameras, Task.Delay(LineInterval, time)).ConfigureAwait(false);
                terminal.Line($"{Elapsed.TotalSeconds,5:0} s  {Summary(Rows())}");
            }

            terminal.Write(Table());
        }

        await cameras.ConfigureAwait(false);
        Close();
    }

    private TimeSpan Elapsed => time.GetElapsedTime(_started);

    private CameraRow[] Rows() => [.. scores.Select(score => score.Read())];

    private Table Table()
    {
        var rows = Rows();
        var seconds = Math.Max(Elapsed.TotalSeconds, 1e-3);
        var table = new Table { Border = TableBorder.Rounded };
        table.AddColumns("camera", "domain");
        foreach (var heading in new[] { "frames", "accuracy of source", $"accuracy of {method}", "gain", "frames/s" })
        {
            table.AddColumn(new TableColumn(new Text(heading)).RightAligned());
        }

        foreach (var row in rows)
        {
            table.AddRow(
                new Text(row.Camera),
                new Text(row.Domain),
                Cell($"{row.Frames:N0}"),
                Cell($"{row.Source:0.0} %"),
                Cell($"{row.Adapted:0.0} %"),
                new Text(Gain(row.Gain), new Style(row.Gain >= 0 ? Color.Green : Color.Red)),
                Cell($"{row.Frames / seconds:0.0}"));
        }

        var seen = Seen(rows);
        table.AddRow(
            new Text("mean"),
            new Text(""),
            Cell($"{rows.Sum(row => row.Frames):N0}"),
            Cell($"{Mean(seen, row => row.Source):0.0} %"),
            Cell($"{Mean(seen, row => row.Adapted):0.0} %"),
            new Text(Gain(Mean(seen, row => row.Gain))),
            Cell($"{rows.Sum(row => row.Frames) / seconds:0.0}"));
        return table;
    }

    private static CameraRow[] Seen(CameraRow[] rows) => [.. rows.Where(row => row.Frames > 0)];

    private static double Mean(CameraRow[] rows, Func<CameraRow, double> value) => rows.Length == 0 ? 0 : rows.Average(value);

    private string Summary(CameraRow[] rows)
    {
        var seen = Seen(rows);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{rows.Sum(row => row.Frames):N0} frames of {rows.Length} cameras, accuracy of source {Mean(seen, row => row.Source):0.0} %, "
                + $"of {method} {Mean(seen, row => row.Adapted):0.0} %");
    }

    private void Close()
    {
        var seen = Seen(Rows());
        if (seen.Length == 0)
        {
            terminal.Line($"No frame was answered; run longer with --seconds.");
            return;
        }

        var (source, adapted) = (100 - Mean(seen, row => row.Source), 100 - Mean(seen, row => row.Adapted));
        terminal.Line($"{Summary(seen)}.");
        terminal.Line($"Every frame went through the service twice, as a PNG over gRPC: once as trained (source), once adapted per camera ({method}).");
        foreach (var clean in scores.Where(score => score.Feed.IsClean).Select(score => score.Read()).Where(row => row.Frames > 0))
        {
            terminal.Line($"{clean.Camera} sees what the model was trained for: {clean.Source:0.0} % right as trained, {clean.Adapted:0.0} % adapted.");
        }

        terminal.Console.WriteLine(adapted < source
            ? string.Create(
                CultureInfo.InvariantCulture,
                $"Without a label and without retraining, adapting each camera's statistics took the error from {source:0.0} % to {adapted:0.0} %: "
                    + $"{100 * (source - adapted) / source:0} % fewer mistakes, better on {seen.Count(row => row.Gain > 0)} of {seen.Length} cameras.")
            : string.Create(
                CultureInfo.InvariantCulture,
                $"Adapting did not help here: the error is {source:0.0} % as trained and {adapted:0.0} % adapted. A stream needs some hundred frames to settle; "
                    + $"run longer, or choose another --method (tta methods lists them)."));
    }

    private static string Gain(double points) => points.ToString("+0.0;-0.0;0.0", CultureInfo.InvariantCulture);

    private static Text Cell(FormattableString value) => new(FormattableString.Invariant(value));
}
