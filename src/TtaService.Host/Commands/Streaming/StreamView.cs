using System.Globalization;
using Spectre.Console;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands.Streaming;

/// <summary>What <c>tta stream</c> shows: live on a terminal, otherwise a line a frame; at the end a summary. Thread-safe.</summary>
internal sealed class StreamView(Terminal terminal, FrameInput input, DriftWatch drift)
{
    private const int KeptLines = 8;
    private const int KeptLatencies = 10_000;
    private const int BarWidth = 24;
    private static readonly TimeSpan Refresh = TimeSpan.FromMilliseconds(200);

    private readonly Lock _gate = new();
    private readonly Queue<string> _events = new();
    private readonly Queue<double> _latencies = new();
    private readonly long _began = TimeProvider.System.GetTimestamp();
    private StreamOpened _opened = new();
    private StreamedStep? _last;
    private int _frames;
    private int _leftOut;
    private int _reconnections;

    public int Steps { get; private set; }

    public int Failed { get; private set; }

    public string? FirstError { get; private set; }

    /// <summary>Shows what comes while the work runs, and the summary when it has ended in any way.</summary>
    public async Task ShowAsync(StreamOpened opened, Func<Task> work)
    {
        _opened = opened;
        terminal.Line($"stream {opened.Stream}, model {opened.Model}, method {opened.Method.Name}, {opened.Age?.Steps ?? 0} steps so far");
        foreach (var warning in opened.Warnings)
        {
            terminal.Line($"warning: {warning}");
        }

        var running = work();
        try
        {
            if (terminal.IsInteractive)
            {
                await terminal.Console.Live(Table()).StartAsync(async live =>
                {
                    while (!running.IsCompleted)
                    {
                        await Task.WhenAny(running, Task.Delay(Refresh)).ConfigureAwait(false);
                        drift.Look();
                        live.UpdateTarget(Table());
                    }
                }).ConfigureAwait(false);
            }

            await running.ConfigureAwait(false);
        }
        finally
        {
            terminal.Line($"{Summary()}");
            await drift.AskAsync().ConfigureAwait(false);
            if (drift.Text is { } text)
            {
                terminal.Line($"{text}");
            }
        }
    }

    public void Take(StreamedStep step)
    {
        lock (_gate)
        {
            Steps++;
            _frames += step.Frames.Count;
            _last = step;
            _latencies.Enqueue(step.Took.TotalMilliseconds);
            if (_latencies.Count > KeptLatencies)
            {
                _latencies.Dequeue();
            }

            if (step.Error is { } error)
            {
                Failed++;
                FirstError ??= $"{step.Frames[0].Name}: {error.Reason}: {error.Message}";
                Note($"{step.Frames[0].Name}: {error.Reason}: {error.Message}");
            }
        }

        if (!terminal.IsInteractive && step.Reply is { } reply)
        {
            foreach (var (frame, prediction) in step.Frames.Zip(reply.Predictions))
            {
                terminal.Line($"{reply.Step,6}  {frame.Name}  {PredictionText.Of(prediction)}");
            }
        }
    }

    public void Take(StreamEvent happened)
    {
        // The opening and the end say themselves how they went.
        if (_opened.Stream.Length == 0 || happened is StreamGaveUp)
        {
            return;
        }

        lock (_gate)
        {
            _reconnections += happened is StreamReconnected ? 1 : 0;
            Note(happened.ToString());
        }
    }

    public void LeaveOut(SourceFrame frame) => Interlocked.Increment(ref _leftOut);

    private void Note(string line)
    {
        if (!terminal.IsInteractive)
        {
            terminal.Error.WriteLine($"tta: {line}");
            return;
        }

        _events.Enqueue(line);
        if (_events.Count > KeptLines)
        {
            _events.Dequeue();
        }
    }

    private string Summary()
    {
        lock (_gate)
        {
            var seconds = TimeProvider.System.GetElapsedTime(_began).TotalSeconds;
            var ordered = _latencies.Order().ToList();
            var all = input.Count is { } count ? FormattableString.Invariant($" of {count:N0}") : "";
            var latency = ordered.Count == 0 ? "" : FormattableString.Invariant($", latency p50 {Quantile(ordered, 0.5):0.0} ms, p99 {Quantile(ordered, 0.99):0.0} ms");
            var frames = FormattableString.Invariant($"{_frames:N0}{all} frames in {seconds:0.0} s ({_frames / Math.Max(seconds, 1e-3):0.0}/s){latency}");
            return FormattableString.Invariant($"{frames}, {Failed:N0} steps failed, {_leftOut:N0} frames left out, {_reconnections:N0} reconnections");
        }
    }

    private Table Table()
    {
        var summary = Summary();
        lock (_gate)
        {
            var table = new Table { Border = TableBorder.Rounded };
            table.AddColumns(new TableColumn(new Text($"{_opened.Stream} · {_opened.Model} · {_opened.Method?.Name}")));
            table.AddRow(new Text(summary));
            if (input.Count is > 0 and var all)
            {
                table.AddRow(new Text($"{Bar((double)_frames / all)} {100 * _frames / all} %"));
            }

            table.AddRow(new Text(drift.Text ?? "drift: nothing observed yet"));
            if (_last is { Reply: { } reply } last)
            {
                table.AddRow(new Text(string.Create(CultureInfo.InvariantCulture, $"step {reply.Step:N0}  {last.Frames[^1].Name}  {last.Took.TotalMilliseconds:0.0} ms")));
                foreach (var label in PredictionText.Bars(reply.Predictions[^1]))
                {
                    table.AddRow(new Text($"{Bar(label.Share)} {label.Text}"));
                }
            }

            foreach (var line in _events)
            {
                table.AddRow(new Text(line, new Style(Color.Yellow)));
            }

            return table;
        }
    }

    private static string Bar(double share) => new string('█', (int)Math.Round(Math.Clamp(share, 0, 1) * BarWidth)).PadRight(BarWidth, '·');

    private static double Quantile(List<double> ordered, double quantile) => ordered[Math.Min(ordered.Count - 1, (int)(quantile * ordered.Count))];
}
