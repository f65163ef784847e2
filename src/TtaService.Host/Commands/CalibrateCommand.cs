using System.CommandLine;
using System.Globalization;
using Spectre.Console;
using TtaService.Engine.Drift;
using TtaService.Engine.Evaluation;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Commands;

/// <summary><c>tta calibrate</c>: what is normal for a model, from in-distribution frames in stream order, stored beside it.</summary>
internal static class CalibrateCommand
{
    public static Command Build()
    {
        var model = new Option<string>("--model") { Description = "A name in the model repository, a model folder, or its .onnx file.", Required = true };
        var models = ModelLocation.RepositoryOption();
        var data = new Option<string?>("--data") { Description = "In-distribution labelled data: a folder a class, IDX files, or images.npy and labels.npy; the model's own sample when not given.", HelpName = "PATH" };
        var methods = new Option<string?>("--method") { Description = "The methods that streams will run with; source and the model's default (adaptive where that is source) when not given.", HelpName = "LIST" };
        var first = NumberOption.Integer("--first", "Use only the first so many images", int.MaxValue, 1, int.MaxValue);
        var length = NumberOption.Integer("--stream-length", "Frames a stream: the data are cut into streams of so many", 1000, 64, int.MaxValue);
        var asIs = new Option<bool>("--as-is") { Description = "The data lie in stream order already (video); otherwise each stream is put in runs of a class, as a camera sees them." };
        var delta = NumberOption.Real("--delta", "Concentration of the correlated order; the smaller the longer the runs of a class", 0.1, 0, 1000);
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 8, 1, 4096);
        var tau = NumberOption.Integer("--tau", "Window of the observed statistics in frames (Drift:Tau)", new ObservationOptions().Tau, 16, 65_536);
        var seed = NumberOption.Integer("--seed", "Seed of the orders", 0, 0, int.MaxValue);
        var output = new Option<string?>("--output") { Description = $"Where to write; {DriftReference.FileName} beside the model when not given.", HelpName = "FILE" };
        var command = new Command("calibrate", $"Makes {DriftReference.FileName}, what is normal for a model, from in-distribution frames in stream order.") { model, models, data, methods, first, length, asIs, delta, batch, tau, seed, output };
        command.SetAction((parsed, cancel) =>
        {
            var location = ModelLocation.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(models));
            // Every frame counts here, also those of source.
            var options = location.LoadOptions with { Observation = new ObservationOptions { Tau = parsed.GetValue(tau), SourceInterval = 1 } };
            using var loaded = location.Load(options);
            if (loaded.Sites.Count == 0)
            {
                throw new CommandException("the model has no normalization sites, so there is nothing to observe; tta inspect says more");
            }

            var frames = EvaluationData.Open(location, loaded, parsed.GetValue(data), [new EvaluationDomain(null, 1)]);
            var streams = Streams(frames.Labels, parsed.GetValue(first), parsed.GetValue(length), parsed.GetValue(asIs), parsed.GetValue(delta), parsed.GetValue(seed));
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var chosen = Methods(location, loaded, parsed.GetValue(methods));
            try
            {
                var reference = new DriftCalibration(loaded, frames).Run(streams, chosen, parsed.GetValue(batch), TimeProvider.System.GetUtcNow(), progress: null, cancel);
                var path = parsed.GetValue(output) ?? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(location.OnnxPath))!, DriftReference.FileName);
                reference.Write(path);
                Write(terminal, reference, path);
            }
            catch (DriftReferenceException refused)
            {
                throw new CommandException(refused.Message);
            }

            return Task.FromResult(0);
        });
        return command;
    }

    /// <summary>Neighbouring images cut into streams, each in its own order.</summary>
    internal static IReadOnlyList<EvaluationSample[]> Streams(IReadOnlyList<int> labels, int first, int length, bool asIs, double delta, int seed)
    {
        var images = Math.Min(first, labels.Count);
        // A short last piece joins the one before it.
        var count = Math.Max(1, images / length);
        return [.. Enumerable.Range(0, count).Select(i =>
        {
            var (from, to) = (i * length, i == count - 1 ? images : (i + 1) * length);
            int[] order = asIs ? [.. Enumerable.Range(0, to - from)] : StreamOrders.Correlated([.. Enumerable.Range(from, to - from).Select(image => labels[image])], seed + i, delta);
            return Array.ConvertAll(order, at => new EvaluationSample(0, from + at));
        })];
    }

    private static IReadOnlyList<MethodSettings> Methods(ModelLocation location, AdaptiveModel model, string? list)
    {
        IReadOnlyList<MethodSettings> methods = list is null
            ? [MethodSettings.Create("source"), location.Folder?.DefaultMethod(model) is { Name: not "source" } named ? named : MethodSettings.Create("adaptive")]
            : [.. MethodExpressions.Parse(list, []).Select(choice => choice.Settings)];
        return methods.Select(method => method.Name).Distinct().Count() == methods.Count
            ? methods
            : throw CommandException.WrongUse("--method lists a method twice; a reference holds one of a name");
    }

    private static void Write(Terminal terminal, DriftReference reference, string path)
    {
        terminal.Line($"{reference.Frames:N0} frames in {reference.Streams} streams, window {reference.Tau} frames");
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumn("limit of gaussian_kl by site");
        foreach (var method in reference.Methods.Keys)
        {
            table.AddColumn(new TableColumn(new Text(method)).RightAligned());
        }

        for (var i = 0; i < reference.Methods.Values.First().Sites.Count; i++)
        {
            var site = i;
            table.AddRow([new Text(reference.Methods.Values.First().Sites[i].Name), .. reference.Methods.Values.Select(method => new Text((method.Sites[site].Limit * method.ScoreLimit).ToString("0.0000", CultureInfo.InvariantCulture)))]);
        }

        terminal.Write(table);
        terminal.Line($"written to {path}");
    }
}
