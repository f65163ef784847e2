using System.CommandLine;
using System.Globalization;
using Grpc.Core;
using Spectre.Console;
using TtaService.V1;

namespace TtaService.Host.Commands;

/// <summary><c>tta top</c>: the streams that drift most, live, from a running server.</summary>
internal static class TopCommand
{
    private const int KeptEvents = 5;

    public static Command Build()
    {
        var address = RemoteServer.AddressOption();
        var key = RemoteServer.ApiKeyOption();
        var model = new Option<string>("--model") { Description = "Only streams of this model.", DefaultValueFactory = _ => "" };
        var rows = NumberOption.Integer("--rows", "Streams a model, worst first", 20, 1, 1000);
        var sweeps = NumberOption.Integer("--sweeps", "End after so many sweeps", int.MaxValue, 1, int.MaxValue);
        var command = new Command("top", "Shows the streams that drift most, live, from a running server.") { address, key, model, rows, sweeps };
        command.SetAction(async (parsed, cancel) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration);
            using var server = RemoteServer.Of(parsed, address, key);
            using var call = server.Client.Drift.WatchDrift(new WatchDriftRequest { Model = parsed.GetRequiredValue(model), Worst = parsed.GetValue(rows) }, cancellationToken: cancel);
            var view = new View();
            try
            {
                if (!terminal.IsInteractive)
                {
                    await FollowAsync(call.ResponseStream, view, parsed.GetValue(sweeps), () => terminal.Write(view.Table()), change => terminal.Line($"{change}"), cancel).ConfigureAwait(false);
                    return;
                }

                await terminal.Console.Live(view.Table()).StartAsync(live =>
                    FollowAsync(call.ResponseStream, view, parsed.GetValue(sweeps), () => live.UpdateTarget(view.Table()), _ => live.UpdateTarget(view.Table()), cancel)).ConfigureAwait(false);
            }
            catch (RpcException failed) when (!cancel.IsCancellationRequested)
            {
                throw server.Explain("watch drift", failed);
            }
        });
        return command;
    }

    private static async Task FollowAsync(IAsyncStreamReader<DriftUpdate> updates, View view, int sweeps, Action show, Action<string> tell, CancellationToken cancel)
    {
        while (sweeps > 0 && await updates.MoveNext(cancel).ConfigureAwait(false))
        {
            if (view.Take(updates.Current) is { } change)
            {
                tell(change);
            }
            else
            {
                show();
                sweeps--;
            }
        }
    }

    private sealed class View
    {
        private readonly SortedDictionary<string, DriftSummary> _models = new(StringComparer.Ordinal);
        private readonly Queue<string> _events = new();

        /// <summary>Takes an update; returns a line for an event, null for a summary.</summary>
        public string? Take(DriftUpdate update)
        {
            if (update.Summary is { } summary)
            {
                _models[summary.Model] = summary;
                return null;
            }

            var time = update.Time.ToDateTimeOffset();
            var line = update.Level is { } level
                ? string.Create(CultureInfo.InvariantCulture, $"{time:HH:mm:ss}  {level.Stream.Stream}: {Name(level.Before)} to {Name(level.Stream.Level)} at step {level.Stream.Step}")
                : string.Create(CultureInfo.InvariantCulture, $"{time:HH:mm:ss}  {update.Domain.Stream.Stream}: domain switched at step {update.Domain.Stream.ChangedAtStep}");
            _events.Enqueue(line);
            while (_events.Count > KeptEvents)
            {
                _events.Dequeue();
            }

            return line;
        }

        public Table Table()
        {
            var table = new Table { Border = TableBorder.Rounded };
            table.AddColumns("stream", "method", "level");
            foreach (var heading in new[] { "score", "frames", "changed at", "entropy", "label shift", "diversity", "blank", "frozen", "agrees with source" })
            {
                table.AddColumn(new TableColumn(new Text(heading)).RightAligned());
            }

            foreach (var summary in _models.Values)
            {
                table.AddRow(new Text($"{summary.Model}: {summary.Calibration}; {string.Join(", ", summary.Levels.Select(level => $"{level.Streams} {Name(level.Level)}"))}", new Style(decoration: Decoration.Bold)));
                foreach (var stream in summary.Worst)
                {
                    table.AddRow(Row(stream));
                }
            }

            foreach (var line in _events)
            {
                table.AddRow(new Text(line));
            }

            return table;
        }

        private static Text[] Row(StreamDrift stream)
        {
            var p = stream.Predictions;
            return
            [
                new Text(stream.Stream),
                new Text(stream.Method),
                new Text(Name(stream.Level), new Style(stream.Level switch { DriftLevel.Critical => Color.Red, DriftLevel.Warning => Color.Yellow, _ => Color.Default })),
                Cell(stream.HasScore ? stream.Score : null, "0.00"),
                Cell(stream.ObservedFrames, "N0"),
                Cell(stream.ChangedAtStep > 0 ? stream.ChangedAtStep : null, "N0"),
                Cell(p.HasEntropy ? p.Entropy : null, "0.00"),
                Cell(p.HasLabelShift ? p.LabelShift : null, "0.00"),
                Cell(p.HasDiversity ? p.Diversity : null, "0.00"),
                Cell(p.BlankFrames, "N0"),
                Cell(p.FrozenFrames, "N0"),
                Cell(p.ShadowFrames > 0 ? 100.0 * p.ShadowAgreed / p.ShadowFrames : null, "0 '%'"),
            ];
        }

        private static Text Cell(double? value, string format) => new(value?.ToString(format, CultureInfo.InvariantCulture) ?? "");

        private static string Name(DriftLevel level) => level switch
        {
            DriftLevel.WarmingUp => "warming up",
            _ => level.ToString().ToLowerInvariant(),
        };
    }
}
