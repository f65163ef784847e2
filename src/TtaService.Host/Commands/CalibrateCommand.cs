using System.CommandLine;
using System.Globalization;
using Spectre.Console;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Evaluation;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Commands;

/// <summary><c>tta calibrate</c>: what is normal for a model, from ordinary frames, stored beside it: what its sites see of single frames, and how far streams drift.</summary>
internal static class CalibrateCommand
{
    public static Command Build()
    {
        var model = new Option<string?>("--model") { Description = "A name in the model repository, a model folder, or its .onnx file.", HelpName = "MODEL" };
        var remote = new RemoteCalibration();
        var models = ModelLocation.RepositoryOption();
        var data = new Option<string?>("--data")
        {
            Description = "Ordinary frames: a folder of images in the order of their names, or labelled data (a folder a class, "
            + "IDX files, images.npy and labels.npy); the model's own sample when not given.",
            HelpName = "PATH"
        };
        var frameCount = NumberOption.Integer(
            "--frames",
            $"Frames that {ModelCalibration.FileName} is measured on, spread evenly over the data; how sure it is, is printed",
            2000,
            Calibrator.MinFrames,
            int.MaxValue);
        var only = new Option<string?>("--only")
        {
            Description = $"Write one file only: calibration ({ModelCalibration.FileName}) or drift "
            + $"({DriftReference.FileName}).",
            HelpName = "FILE"
        };
        only.AcceptOnlyFromAmong("calibration", "drift");
        var methods = new Option<string?>("--method")
        {
            Description = "The methods that streams will run with; "
            + "source and the model's default (adaptive where that is source) when not given.",
            HelpName = "LIST"
        };
        var first = NumberOption.Integer("--first", "Use only the first so many images", int.MaxValue, 1, int.MaxValue);
        var length = NumberOption.Integer("--stream-length", "Frames a stream: the data are cut into streams of so many", 1000, 64, int.MaxValue);
        var asIs = new Option<bool>("--as-is")
        {
            Description = "The data lie in stream order already (video); "
            + "otherwise each stream is put in runs of a class, as a camera sees them."
        };
        var delta = NumberOption.Real("--delta", "Concentration of the correlated order; the smaller the longer the runs of a class", 0.1, 0, 1000);
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 8, 1, 4096);
        var tau = NumberOption.Integer("--tau", "Window of the observed statistics in frames (Drift:Tau)", new ObservationOptions().Tau, 16, 65_536);
        var seed = NumberOption.Integer("--seed", "Seed of the orders", 0, 0, int.MaxValue);
        var output = new Option<string?>("--output")
        {
            Description = $"Where to write {DriftReference.FileName}, and {ModelCalibration.FileName} beside it; "
            + "the model's folder when not given.",
            HelpName = "FILE"
        };
        var command = new Command(
            "calibrate",
            $"Makes {ModelCalibration.FileName} and {DriftReference.FileName}, what is normal for a model, from ordinary frames; "
                + "labels are not needed.") { model, models, data, frameCount, only, methods, first, length, asIs, delta, batch, tau, seed, output };
        remote.AddTo(command);
        command.SetAction((parsed, cancel) =>
        {
            if (remote.IsMeant(parsed, model))
            {
                // What a server lacks of the usual number takes an hour of a slow camera.
                return remote.RunAsync(parsed, parsed.GetResult(frameCount) is { Implicit: false } ? parsed.GetValue(frameCount) : 0, cancel);
            }

            var location = ModelLocation.Resolve(parsed.GetValue(model)!, parsed.GetValue(models));
            var path = parsed.GetValue(output) ?? Path.Combine(Path.GetDirectoryName(Path.GetFullPath(location.OnnxPath))!, DriftReference.FileName);
            var terminal = new Terminal(parsed.InvocationConfiguration);

            // Every frame counts here, also those of source. An old calibration is not read: it may be why this one is made.
            var options = location.LoadOptions with { CalibrationPath = null, Observation = new ObservationOptions { Tau = parsed.GetValue(tau), SourceInterval = 1 } };
            var (chosenFile, made) = (parsed.GetValue(only), TimeProvider.System.GetUtcNow());
            ModelCalibration? calibration = null;
            IReadOnlyList<(NormalizationSite Site, double Error)> errors = [];
            if (chosenFile != "drift")
            {
                using var plain = Load(location, options with { ForCalibration = true });
                var frames = EvaluationData.OpenFrames(location, plain, parsed.GetValue(data));
                (calibration, errors) = Measure(plain, frames, Math.Min(parsed.GetValue(first), frames.Labels.Count), parsed.GetValue(frameCount), made, cancel);
            }

            if (chosenFile != "calibration")
            {
                using var loaded = Load(
                    location,
                    calibration is null ? options with { CalibrationPath = location.LoadOptions.CalibrationPath } : options with { Calibration = calibration });
                ModelLocation.RequireImages(loaded, $"--only calibration writes {ModelCalibration.FileName} alone");
                var frames = EvaluationData.OpenFrames(location, loaded, parsed.GetValue(data));
                var streams = Streams(
                    frames.Labels,
                    parsed.GetValue(first),
                    parsed.GetValue(length),
                    parsed.GetValue(asIs) || !frames.AreLabelled,
                    parsed.GetValue(delta),
                    parsed.GetValue(seed));
                var chosen = Methods(location, loaded, parsed.GetValue(methods));
                try
                {
                    var reference = new DriftCalibration(loaded, frames).Run(streams, chosen, parsed.GetValue(batch), made, progress: null, cancel);
                    reference.Write(path);
                    Write(terminal, reference, path);
                }
                catch (DriftReferenceException refused)
                {
                    throw new CommandException($"{refused.Message}{(calibration is null ? string.Empty : $"; --only calibration writes {ModelCalibration.FileName} alone")}");
                }
            }

            if (calibration is not null)
            {
                Write(terminal, calibration, errors, Path.Combine(Path.GetDirectoryName(Path.GetFullPath(path))!, ModelCalibration.FileName));
            }

            return Task.FromResult(0);
        });
        return command;
    }

    private static AdaptiveModel Load(ModelLocation location, AdaptiveModelOptions options)
    {
        var loaded = location.Load(options);
        if (loaded.Sites.Count > 0)
        {
            return loaded;
        }

        loaded.Dispose();
        throw new CommandException(
            "the model has no normalization sites and no convolution or residual block that could be one, so there is nothing to observe; tta inspect says more");
    }

    // Frames, or clips, that lie as far apart as the data allow: neighbours of a video are alike.
    private static (ModelCalibration Calibration, IReadOnlyList<(NormalizationSite Site, double Error)> Errors) Measure(
        AdaptiveModel model,
        EvaluationFrames frames,
        int available,
        int wanted,
        DateTimeOffset created,
        CancellationToken cancel)
    {
        var (calibrator, clip) = (new Calibrator(model), model.ClipFrames);
        var (clips, most) = (Math.Min(available, wanted) / clip, available / clip);
        var chosen = Enumerable.Range(0, clips).SelectMany(i => Enumerable.Range((int)((long)i * most / clips) * clip, clip)).Select(i => new EvaluationSample(0, i));
        foreach (var samples in chosen.Chunk(Math.Max(1, FramesInPass / clip) * clip))
        {
            cancel.ThrowIfCancellationRequested();
            calibrator.Observe(frames.Read(samples));
        }

        return (calibrator.Complete(created), calibrator.StandardErrors);
    }

    private static void Write(Terminal terminal, ModelCalibration calibration, IReadOnlyList<(NormalizationSite Site, double Error)> errors, string path)
    {
        var error = errors.Max(site => site.Error);
        var virtuals = errors.Count(site => site.Site.Kind == SiteKind.Virtual);
        calibration.Write(path);
        var enough = Math.Ceiling(calibration.Frames * Math.Pow(error / Calibrator.EnoughError, 2));
        var advice = error <= Calibrator.EnoughError
            ? "more frames would not help"
            : string.Create(CultureInfo.InvariantCulture, $"more frames help until {Calibrator.EnoughError}, about {enough:N0} frames like these");
        var kinds = virtuals > 0 ? $" ({virtuals} virtual)" : string.Empty;
        var precision = string.Create(CultureInfo.InvariantCulture, $"largest standard error {error:0.000} of a frame's deviation: {advice}");
        terminal.Line($"{calibration.Frames:N0} frames, {calibration.Sites.Count} sites{kinds}, {calibration.Classes} classes; {precision}");
        var table = new Table { Border = TableBorder.Simple };
        table.AddColumns("least sure sites", "kind", "standard error");
        foreach (var (site, uncertainty) in errors.OrderByDescending(site => site.Error).Take(LeastSureSites))
        {
            table.AddRow(new Text(site.Name), new Text($"{site.Kind}".ToLowerInvariant()), new Text(uncertainty.ToString("0.000", CultureInfo.InvariantCulture)));
        }

        terminal.Write(table);
        terminal.Line($"written to {path}");
    }

    private const int FramesInPass = 32;
    private const int LeastSureSites = 8;

    /// <summary>Neighbouring images cut into streams, each in its own order.</summary>
    internal static IReadOnlyList<EvaluationSample[]> Streams(IReadOnlyList<int> labels, int first, int length, bool asIs, double delta, int seed)
    {
        var images = Math.Min(first, labels.Count);
        // A short last piece joins the one before it.
        var count = Math.Max(1, images / length);
        return [.. Enumerable.Range(0, count).Select(i =>
        {
            var (from, to) = (i * length, i == count - 1 ? images : (i + 1) * length);
            int[] order = asIs
                ? [.. Enumerable.Range(0, to - from)]
                : StreamOrders.Correlated([.. Enumerable.Range(from, to - from).Select(image => labels[image])], seed + i, delta);
            return Array.ConvertAll(order, at => new EvaluationSample(0, from + at));
        })];
    }

    private static IReadOnlyList<MethodSettings> Methods(ModelLocation location, AdaptiveModel model, string? list)
    {
        IReadOnlyList<MethodSettings> methods = list is null
            ? [location.Methods.Settings("source"), location.Folder?.DefaultMethod(model) is { Name: not "source" } named ? named : location.Methods.Settings("adaptive")]
            : [.. MethodExpressions.Parse(list, [], location.Methods).Select(choice => choice.Settings)];
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
            var limits = reference.Methods.Values.Select(method => (method.Sites[site].Limit * method.ScoreLimit).ToString("0.0000", CultureInfo.InvariantCulture));
            table.AddRow([new Text(reference.Methods.Values.First().Sites[i].Name), .. limits.Select(limit => new Text(limit))]);
        }

        terminal.Write(table);
        terminal.Line($"written to {path}");
    }
}
