using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Evaluation;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Commands;

/// <summary><c>tta recommend</c>: measures methods on a user's own labelled frames and ends with a line for <c>model.json</c>.</summary>
internal static class RecommendCommand
{
    // The simpler first: of methods that err alike the first is named.
    private static readonly string[] Candidates =
        ["source", "iabn", "alpha_bn", "unmix_tns", "adaptive", "ema", "tbr", "prior", "tbn", "auto", "unmix_tns+temporal", "tbr+temporal"];

    public static Command Build()
    {
        var model = new Option<string>("--model") { Description = "A name in the model repository, a model folder, or an .onnx file.", Required = true };
        var models = ModelLocation.RepositoryOption();
        var data = new Option<string>("--data")
        {
            Description = "Labelled frames as the cameras send them: a folder a class, IDX files, or images.npy and labels.npy.",
            HelpName = "PATH",
            Required = true,
        };
        var methods = new Option<string?>("--method") { Description = "Instead of the published methods, auto and filters in time.", HelpName = "LIST" };
        var orders = EvaluateCommand.Names<StreamOrder>("--order", "Orders of the frames; as-is where they lie as they came", [StreamOrder.Correlated, StreamOrder.Iid]);
        var batches = NumberOption.List("--batch-size", "Frames a step, as the clients send them", [1, 16], 1, 4096);
        var seeds = NumberOption.List("--seeds", "Seeds of the orders and of the initial states", [0, 1], 0, int.MaxValue);
        var delta = NumberOption.Real("--delta", "Concentration of the correlated order; the smaller the longer the runs of a class", 0.1, 0, 1000);
        var limit = NumberOption.Integer("--limit", "Images a stream", 1000, 1, int.MaxValue);
        var device = new Option<string>("--device") { Description = "cpu or cuda:N.", DefaultValueFactory = _ => "cpu" };
        var plugins = KnownMethods.PluginOption();
        var command = new Command("recommend", "Measures methods on your own labelled frames and says which to set in model.json.")
        {
            model, models, data, methods, orders, batches, seeds, delta, limit, device, plugins,
        };
        command.SetAction((parsed, cancel) =>
        {
            var location = ModelLocation.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(models), KnownMethods.Of(parsed, plugins));
            using var loaded = location.Load(location.LoadOptions with { Device = parsed.GetRequiredValue(device) });
            var terminal = new Terminal(parsed.InvocationConfiguration);
            RequireLabels(parsed.GetRequiredValue(data));
            var choices = MethodExpressions.Parse(parsed.GetValue(methods) ?? string.Join(',', Candidates), [], location.Methods);
            var available = choices.Where(choice => loaded.WhyUnavailable(choice.Settings) is null).ToList();
            foreach (var left in choices.Except(available))
            {
                terminal.Line($"left out: {left.Label}: {loaded.WhyUnavailable(left.Settings)}");
            }

            var study = new EvaluationStudy
            {
                Domains = [new EvaluationDomain(null, 1)],
                Methods = available.Count > 0 ? available : throw new CommandException("none of the methods can run on this model; see above"),
                Orders = parsed.GetRequiredValue(orders),
                Settings = [DomainSetting.Single],
                BatchSizes = parsed.GetRequiredValue(batches),
                Seeds = parsed.GetRequiredValue(seeds),
                Delta = parsed.GetValue(delta),
                Limit = parsed.GetValue(limit),
                Snapshot = [],
                KeepsLogits = false,
            };
            var frames = EvaluationData.Open(location, loaded, parsed.GetRequiredValue(data), study.Domains);
            EvaluationReport.WriteClasses(terminal, frames.Folders, location.Folder!.Labels);
            var (outcomes, complete) = EvaluateCommand.Run(terminal, study, new Evaluator(loaded, frames), frames, cancel);
            if (!complete)
            {
                cancel.ThrowIfCancellationRequested();
            }

            EvaluationReport.WriteTables(terminal, study, outcomes);
            foreach (var choice in available)
            {
                if (loaded.Caution(choice.Settings) is { } caution)
                {
                    terminal.Line($"{choice.Label}: {caution}");
                }
            }

            Conclude(terminal, study, Recommendation.Of(study, outcomes, Math.Min(study.Limit, frames.Labels.Count)));
            return Task.FromResult(0);
        });
        return command;
    }

    private static void RequireLabels(string path)
    {
        if (!Directory.Exists(path))
        {
            return;
        }

        string[] pictures = [".jpg", ".jpeg", ".png", ".webp"];
        if (Directory.EnumerateFiles(path).Any(file => pictures.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase)))
        {
            throw new CommandException($"{path} holds frames without labels, and which method errs least can't be told from those: entropy and agreement point the wrong way "
                + "where a method makes the model surely wrong. Put a few hundred labelled frames into a folder a class; "
                + "or run tta calibrate on these frames and leave the choice to auto");
        }
    }

    private static void Conclude(Terminal terminal, EvaluationStudy study, Recommendation chosen)
    {
        terminal.Line($"{chosen.Reason}");
        var method = study.Methods.First(method => method.Label == chosen.Method);
        var entry = new JsonObject { ["name"] = method.Settings.Name };
        if (method.Given.Count > 0)
        {
            entry["hyperparameters"] = method.Given.DeepClone();
        }

        terminal.Output.WriteLine($"\"default_method\": {entry.ToJsonString(new JsonSerializerOptions { WriteIndented = false })}");
    }
}

/// <summary>Which method a user's frames speak for.</summary>
/// <param name="Method">Its label.</param>
/// <param name="Reason">Why, in a sentence.</param>
internal sealed record Recommendation(string Method, string Reason)
{
    private const string Source = "source";
    private const double Harm = 0.5;

    /// <summary>The method with the lowest mean error that refuses no step and is nowhere worse than the source by more than half a point and chance; of those that err
    /// alike within chance the one listed first.</summary>
    /// <param name="study">What ran.</param>
    /// <param name="outcomes">What came out.</param>
    /// <param name="frames">Frames of a stream, which say what is chance.</param>
    public static Recommendation Of(EvaluationStudy study, IReadOnlyList<EvaluationOutcome> outcomes, int frames)
    {
        var errors = study.Methods.ToDictionary(method => method.Label, method => outcomes
            .Where(outcome => outcome.Cell.Method == method.Label)
            .GroupBy(outcome => (outcome.Cell.Order, outcome.Cell.BatchSize))
            .ToDictionary(cell => cell.Key, cell => cell.Any(outcome => outcome.Refusal is not null) ? double.NaN : cell.Average(outcome => outcome.Error(0))));
        var source = errors.GetValueOrDefault(Source);
        double Chance(double percent) => 100 * Math.Sqrt(Math.Max(percent / 100 * (1 - (percent / 100)), 1.0 / frames) / frames);
        bool Harms(string method) => source is not null && errors[method].Any(cell => cell.Value > source[cell.Key] + Harm + Chance(source[cell.Key]));
        string[] fit = [.. study.Methods.Select(method => method.Label).Where(method => errors[method].Values.All(double.IsFinite) && !Harms(method))];
        if (fit.Length == 0)
        {
            throw new CommandException("every method refuses some of these steps or harms; give larger --batch-size, or list source, too");
        }

        var means = fit.ToDictionary(method => method, method => errors[method].Values.Average());
        var best = fit.MinBy(method => means[method])!;
        var chance = Chance(means[best]);
        var chosen = fit.First(method => means[method] <= means[best] + chance);
        var harmful = errors.Keys.Where(method => errors[method].Values.All(double.IsFinite) && Harms(method)).ToList();
        var reason = string.Create(CultureInfo.InvariantCulture, $"{chosen} errs on {means[chosen]:0.0} % in the mean of these streams");
        reason += source is null || chosen == Source ? string.Empty : string.Create(CultureInfo.InvariantCulture, $", source on {source.Values.Average():0.0}");
        reason += chosen == best ? string.Empty : string.Create(CultureInfo.InvariantCulture, $"; {best} errs on {means[best]:0.0}, which {frames} frames can't tell from it");
        reason += harmful.Count == 0 ? string.Empty : $"; worse than source somewhere: {string.Join(", ", harmful)}";
        return new Recommendation(chosen, string.Create(CultureInfo.InvariantCulture, $"{reason} (standard error {chance:0.0} points)."));
    }
}
