using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using Spectre.Console;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using TtaService.Evaluation;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Commands;

/// <summary><c>tta evaluate</c>: the error of methods on labelled streams, by domain, order and batch size.</summary>
internal static class EvaluateCommand
{
    public static Command Build()
    {
        var model = new Option<string>("--model") { Description = "A name in the model repository, a model folder, or an .onnx file.", Required = true };
        var models = ModelLocation.RepositoryOption();
        var data = new Option<string?>("--data")
        {
            Description = "Labelled data: a folder a class, IDX files, or images.npy and labels.npy; "
            + "the model's own sample when not given.",
            HelpName = "PATH"
        };
        var methods = new Option<string>("--method")
        {
            Description = "Methods, for example "
            + "source,ema{momentum=0.1},unmix_tns.",
            DefaultValueFactory = _ => "source,tbn,unmix_tns",
            HelpName = "LIST"
        };
        var set = new Option<string[]>("--set") { Description = "A hyperparameter of a listed method, for example unmix_tns.components=128.", HelpName = "METHOD.NAME=VALUE" };
        var orders = Names<StreamOrder>("--order", "Orders of the frames of a domain", [StreamOrder.Correlated]);
        var settings = Names<DomainSetting>("--setting", "How domains follow each other", [DomainSetting.Single]);
        var batches = NumberOption.List("--batch-size", "Frames a step", [64], 1, 4096);
        var seeds = NumberOption.List("--seeds", "Seeds of the orders and of the initial states", [0], 0, int.MaxValue);
        var corruptions = new Option<string>("--corruptions")
        {
            Description = "all (the fifteen), none, or a list of names; "
            + "clean is one.",
            DefaultValueFactory = _ => "all",
            HelpName = "LIST"
        };
        var severity = NumberOption.Integer("--severity", "Severity of the corruptions", 5, 1, 5);
        var delta = NumberOption.Real("--delta", "Concentration of the correlated order; the smaller the longer the runs of a class", 0.1, 0, 1000);
        var limit = NumberOption.Integer("--limit", "Images a domain", int.MaxValue, 1, int.MaxValue);
        var state = new Option<string?>("--state") { Description = "Start every stream from this snapshot (tta.stream.v1).", HelpName = "FILE" };
        var logits = new Option<string?>("--logits-out")
        {
            Description = "Write the model's answers in stream order, a row a frame; "
            + "for one method, order, setting, batch size and seed.",
            HelpName = "FILE.npy"
        };
        var json = new Option<string?>("--json") { Description = "Write the results as JSON; - for standard output.", HelpName = "FILE" };
        var csv = new Option<string?>("--csv") { Description = "Write the results as CSV; - for standard output.", HelpName = "FILE" };
        var matrix = new Option<bool>("--matrix")
        {
            Description = "Every setting, order and number of frames a step, clean frames too, "
            + "of the model's own method and the published ones; goes on where a run before was stopped."
        };
        var markdown = new Option<string?>("--markdown") { Description = "With --matrix: write the table as Markdown; - for standard output.", HelpName = "FILE" };
        var device = new Option<string>("--device") { Description = "cpu or cuda:N.", DefaultValueFactory = _ => "cpu" };
        var plugins = KnownMethods.PluginOption();
        var command = new Command("evaluate", "Measures the error of methods on labelled streams.")
        {
            model, models, data, methods, set, orders, settings, batches, seeds, corruptions, severity, delta, limit, state, logits, json, csv, matrix, markdown, device, plugins,
        };
        command.SetAction((parsed, cancel) =>
        {
            var location = ModelLocation.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(models), KnownMethods.Of(parsed, plugins));
            using var loaded = location.Load(location.LoadOptions with { Device = parsed.GetRequiredValue(device) });
            ModelLocation.RequireImages(loaded, "serve it, and compare its answers with tta stream --record");
            if (parsed.GetValue(matrix))
            {
                return Task.FromResult(MatrixRun.Run(new Terminal(parsed.InvocationConfiguration), location, loaded, new MatrixChoices
                {
                    Data = parsed.GetValue(data),
                    Methods = parsed.GetResult(methods) is { Implicit: false }
                        ? MethodExpressions.Parse(parsed.GetRequiredValue(methods), parsed.GetValue(set)!, location.Methods)
                        : null,
                    Orders = Given(parsed, orders),
                    Settings = Given(parsed, settings),
                    BatchSizes = Given(parsed, batches),
                    Seeds = Given(parsed, seeds),
                    Delta = GivenNumber(parsed, delta),
                    Limit = GivenNumber(parsed, limit),
                    Domains = Domains(parsed.GetRequiredValue(corruptions), parsed.GetValue(severity)),
                    Severity = parsed.GetValue(severity),
                    Csv = parsed.GetValue(csv),
                    Markdown = parsed.GetValue(markdown),
                }, cancel));
            }

            var snapshot = parsed.GetValue(state) is { } file ? File.ReadAllBytes(file) : [];
            var study = new EvaluationStudy
            {
                Domains = Domains(parsed.GetRequiredValue(corruptions), parsed.GetValue(severity)),
                Methods = Methods(
                    loaded,
                    snapshot,
                    parsed.GetResult(methods) is { Implicit: false } ? parsed.GetRequiredValue(methods) : null,
                    parsed.GetRequiredValue(methods),
                    parsed.GetValue(set)!),
                Orders = parsed.GetRequiredValue(orders),
                Settings = parsed.GetRequiredValue(settings),
                BatchSizes = parsed.GetRequiredValue(batches),
                Seeds = parsed.GetRequiredValue(seeds),
                Delta = parsed.GetValue(delta),
                Limit = parsed.GetValue(limit),
                Snapshot = snapshot,
                KeepsLogits = parsed.GetValue(logits) is not null,
            };
            if (study.KeepsLogits && study.Methods.Count * study.Orders.Count * study.Settings.Count * study.BatchSizes.Count * study.Seeds.Count != 1)
            {
                throw CommandException.WrongUse("--logits-out writes one run; give one --method, --order, --setting, --batch-size and --seeds");
            }

            var frames = EvaluationData.Open(location, loaded, parsed.GetValue(data), study.Domains);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            EvaluationReport.WriteClasses(terminal, frames.Folders, location.Folder!.Labels);
            var (results, complete) = Run(terminal, study, new Evaluator(loaded, frames), frames, cancel);
            EvaluationReport.WriteTables(terminal, study, results);
            Write(terminal, parsed.GetValue(json), writer => writer.WriteLine(JsonSerializer.Serialize(EvaluationReport.Rows(study, results), EvaluationReport.Json)));
            Write(terminal, parsed.GetValue(csv), writer => EvaluationReport.WriteCsv(writer, EvaluationReport.Rows(study, results)));
            if (parsed.GetValue(logits) is { } path)
            {
                WriteLogits(path, results);
            }

            if (!complete)
            {
                terminal.Line($"interrupted after {results.Sum(outcome => outcome.Results.Sum(result => (long)result.Frames.Sum()))} of {study.Frames(frames.Labels)} frames");
                cancel.ThrowIfCancellationRequested();
            }

            return Task.FromResult(0);
        });
        return command;
    }

    // What the user gave; null for the default, which a matrix has its own of.
    private static T? Given<T>(ParseResult parsed, Option<T> option)
        where T : class => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option) : null;

    private static T? GivenNumber<T>(ParseResult parsed, Option<T> option)
        where T : struct => parsed.GetResult(option) is { Implicit: false } ? parsed.GetRequiredValue(option) : null;

    private static IReadOnlyList<EvaluationDomain> Domains(string list, int severity) => list switch
    {
        "all" => [.. Corruption.All.Select(corruption => new EvaluationDomain(corruption, severity))],
        "none" => [new EvaluationDomain(null, severity)],
        _ => [.. list.Split(',', StringSplitOptions.TrimEntries).Distinct().Select(name => name == "clean"
            ? new EvaluationDomain(null, severity)
            : new EvaluationDomain(
                Corruption.Find(name) ?? throw CommandException.WrongUse($"--corruptions lists '{name}'; "
                    + $"there is clean, {string.Join(", ", Corruption.All.Select(corruption => corruption.Name))}, all and none"),
                severity))],
    };

    private static IReadOnlyList<MethodChoice> Methods(AdaptiveModel model, byte[] snapshot, string? given, string list, string[] overrides)
    {
        if (snapshot.Length > 0)
        {
            var state = Import(model, snapshot);
            model.Release(state);
            return given is null || given == state.Method.Name
                ? [new MethodChoice(state.Method.Name, state.Method, [])]
                : throw CommandException.WrongUse($"the snapshot is of method {state.Method.Name}, --method says {given}; leave --method out");
        }

        var choices = MethodExpressions.Parse(list, overrides, model.Methods);
        foreach (var choice in choices)
        {
            if (model.WhyUnavailable(choice.Settings) is { } reason)
            {
                throw new CommandException($"{choice.Label}: {reason}");
            }
        }

        return choices;
    }

    private static StreamState Import(AdaptiveModel model, byte[] snapshot)
    {
        try
        {
            return model.Import(snapshot);
        }
        catch (SnapshotException refused)
        {
            throw new CommandException($"--state: the snapshot can't be used: {refused.Message}");
        }
    }

    /// <summary>Runs a study, with a bar of its progress where somebody looks.</summary>
    public static (IReadOnlyList<EvaluationOutcome> Outcomes, bool IsComplete) Run(
        Terminal terminal,
        EvaluationStudy study,
        Evaluator evaluator,
        EvaluationFrames frames,
        CancellationToken cancel)
    {
        if (!terminal.IsInteractive)
        {
            return study.Run(evaluator, frames.Labels, null, cancel);
        }

        return terminal.Console.Progress().Columns(new TaskDescriptionColumn(), new ProgressBarColumn(), new PercentageColumn(), new RemainingTimeColumn()).Start(context =>
        {
            var task = context.AddTask("frames", maxValue: study.Frames(frames.Labels));
            return study.Run(evaluator, frames.Labels, new Counting(task), cancel);
        });
    }

    private static void Write(Terminal terminal, string? path, Action<TextWriter> write)
    {
        if (path == "-")
        {
            write(terminal.Output);
        }
        else if (path is not null)
        {
            using var file = new StreamWriter(path);
            write(file);
        }
    }

    private static void WriteLogits(string path, IReadOnlyList<EvaluationOutcome> results)
    {
        using var file = new NpyWriter(path);
        foreach (var row in results.SelectMany(result => result.Results).SelectMany(result => result.Logits))
        {
            file.Append(row, row.Length);
        }
    }

    /// <summary>An option that takes a list of an enumeration's names.</summary>
    public static Option<IReadOnlyList<T>> Names<T>(string name, string description, IReadOnlyList<T> fallback)
        where T : struct, Enum
    {
        var known = Enum.GetValues<T>().ToDictionary(EvaluationStudy.NameOf, value => value);
        return new Option<IReadOnlyList<T>>(name)
        {
            Description = $"{description}: a list of {string.Join(", ", known.Keys)}",
            HelpName = "LIST",
            DefaultValueFactory = _ => fallback,
            CustomParser = result =>
            {
                var names = result.Tokens[0].Value.Split(',', StringSplitOptions.TrimEntries).Distinct().ToList();
                if (names.Find(part => !known.ContainsKey(part)) is { } wrong)
                {
                    result.AddError($"{name} lists '{wrong}'; there is {string.Join(", ", known.Keys)}.");
                    return fallback;
                }

                return [.. names.Select(part => known[part])];
            },
        };
    }

    private sealed class Counting(ProgressTask task) : IProgress<int>
    {
        public void Report(int value) => task.Increment(value);
    }
}
