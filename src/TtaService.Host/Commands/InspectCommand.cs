using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Spectre.Console;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Loading;

namespace TtaService.Host.Commands;

/// <summary><c>tta inspect</c>: what of a model adapts, and what a stream costs.</summary>
internal static class InspectCommand
{
    private const long Gibibyte = 1L << 30;
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static Command Build()
    {
        var model = new Argument<string>("model") { Description = "An .onnx file, a model folder, or a name in the model repository." };
        var models = ModelLocation.RepositoryOption();
        var methods = new Option<string?>("--method")
        {
            Description = "Methods to size, for example unmix_tns{components=128}; "
            + "all with their defaults when not given.",
            HelpName = "LIST"
        };
        var json = new Option<bool>("--json") { Description = "Write JSON instead of tables." };
        var plugins = KnownMethods.PluginOption();
        var command = new Command(
            "inspect",
            "Shows what a model takes and gives, its normalization sites and the bytes of state per stream by method, and says what will adapt.")
        {
            model, models, methods, plugins, json,
        };
        command.SetAction(parsed =>
        {
            var known = KnownMethods.Of(parsed, plugins);
            var location = ModelLocation.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(models), known);
            var choices = parsed.GetValue(methods) is { } list
                ? MethodExpressions.Parse(list, [], known)
                : [.. known.All.Select(method => new MethodChoice(method.Name, known.Settings(method.Name), []))];
            var report = Report(location, choices);
            var terminal = new Terminal(parsed.InvocationConfiguration);
            if (parsed.GetValue(json))
            {
                terminal.Output.WriteLine(JsonSerializer.Serialize(report, Indented));
            }
            else
            {
                Write(terminal, report);
            }

            return 0;
        });
        return command;
    }

    private static ModelReport Report(ModelLocation location, IReadOnlyList<MethodChoice> choices)
    {
        using var model = AdaptiveModel.Load(location.OnnxPath, location.LoadOptions);
        var folder = location.Folder ?? ModelFolder.Of(location.OnnxPath);
        JsonObject? preprocessing = null;
        string? problem = null;
        MethodSettings? method = null;
        try
        {
            var decided = folder.Preprocessing(model);
            preprocessing = ModelFolder.Describe(decided, model);
            model.Settle(WarmUp.Frames(new FramePipeline(decided, new FrameOptions()), model.ClipFrames));
            method = folder.DefaultMethod(model);
        }
        catch (Exception failure)
        {
            // A graph may fail in any way, and what it is shows all the same.
            problem = BrokenModel.From(folder.Name, failure).Reason;
        }

        var verdict = ModelVerdict.Of(model, folder, method, problem);
        var outputs = model.Outputs.Select(output => new OutputReport(
            output.Name,
            [.. output.Shape],
            JsonNamingPolicy.SnakeCaseLower.ConvertName($"{output.Kind}"),
            output.Reason,
            output == model.Scores)).ToList();
        var sites = model.Sites.Select(site => new SiteReport(
            site.Index,
            site.Name,
            Kind(site),
            site.Channels,
            site.Epsilon,
            site.Momentum,
            !model.StaysAtSource(site))).ToList();
        var idle = model.IdleSites.Select(site => new IdleSiteReport(site.Name, Kind(site), site.Channels)).ToList();
        var methods = choices.Select(choice =>
        {
            var unavailable = model.WhyUnavailable(choice.Settings);
            var bytes = unavailable is null ? model.StateBytes(choice.Settings) : 0;
            return new MethodReport(choice.Label, bytes, bytes > 0 ? Gibibyte / bytes : null, unavailable, model.Caution(choice.Settings));
        });
        var calibration = model.Calibration is { } known
            ? string.Create(CultureInfo.InvariantCulture, $"calibrated {known.Created:yyyy-MM-dd} on {known.Frames:N0} frames")
            : "uncalibrated: run tta calibrate";
        return new ModelReport(
            location.OnnxPath,
            model.Digest,
            [.. model.InputShape],
            model.InputType,
            $"{model.InputLayout}".ToLowerInvariant(),
            model.ClipFrames,
            preprocessing,
            outputs,
            new AnswerReport($"{model.Answer.Kind}".ToLowerInvariant(), model.Answer.Reason),
            folder.LabelsOf(model).Count,
            method?.Name,
            verdict,
            calibration,
            model.FramesPerPass,
            model.Notices,
            sites.Count,
            sites.Sum(site => site.Channels),
            sites,
            idle,
            [.. methods]);
    }

    private static void Write(Terminal terminal, ModelReport report)
    {
        terminal.Line($"model    {report.Path}");
        terminal.Line($"sha256   {report.Digest}");
        var clips = report.ClipFrames > 1 ? string.Create(CultureInfo.InvariantCulture, $", clips of {report.ClipFrames}") : string.Empty;
        terminal.Line($"input    {Shape(report.InputShape)} as {report.InputLayout}, {report.InputType}{clips}");
        terminal.Line($"frames   {report.Preprocessing?.ToJsonString() ?? "no preprocessing fits"}");
        foreach (var output in report.Outputs)
        {
            terminal.Line($"output   {output.Name} {Shape(output.Shape)}: {output.Kind}, {output.Reason}{(output.Predicts ? "; predictions are read from it" : string.Empty)}");
        }

        terminal.Line($"answers  {report.Answer.Kind}: {report.Answer.Reason}");
        terminal.Line($"labels   {report.Labels}");
        terminal.Line($"method   {report.DefaultMethod ?? "none"}");
        terminal.Line($"normal   {report.Calibration}");
        terminal.Line($"sites    {report.SiteCount}, {report.Channels} channels in all");
        foreach (var notice in report.Notices)
        {
            terminal.Line($"notice   {notice}");
        }

        var sites = new Table { Border = TableBorder.Simple };
        sites.AddColumns("#", "normalization site", "kind", "channels", "epsilon", "momentum");
        foreach (var site in report.Sites)
        {
            sites.AddRow(Cell($"{site.Index}"), new Text(site.Name), new Text(site.Kind), Cell($"{site.Channels}"), Cell($"{site.Epsilon:g4}"), Cell($"{site.Momentum:g4}"));
        }

        foreach (var site in report.IdleSites)
        {
            sites.AddRow(new Text("-"), new Text(site.Name), new Text($"{site.Kind}, not calibrated"), Cell($"{site.Channels}"), new Text(""), new Text(""));
        }

        var methods = new Table { Border = TableBorder.Simple };
        methods.AddColumns("method", "bytes of state per stream", "streams per GiB");
        foreach (var method in report.Methods)
        {
            methods.AddRow(
                new Text(method.Method),
                method.Unavailable is not null ? new Text("not available") : Cell($"{method.StateBytes:N0}"),
                method.Unavailable is not null ? new Text("") : method.StreamsPerGibibyte is { } streams ? Cell($"{streams:N0}") : new Text("no state"));
        }

        if (report.SiteCount + report.IdleSites.Count > 0)
        {
            terminal.Write(sites);
        }

        terminal.Write(methods);
        if (report.Methods.Select(method => method.Unavailable).FirstOrDefault(reason => reason is not null) is { } why)
        {
            // Of the other methods it is the same.
            terminal.Line($"not available: {why}");
        }

        foreach (var method in report.Methods.Where(method => method.Caution is not null))
        {
            terminal.Line($"{method.Method}: {method.Caution}");
        }

        terminal.Line($"");
        foreach (var line in report.Verdict)
        {
            terminal.Line($"{line}");
        }
    }

    private static string Shape(long[] shape) =>
        shape.Length == 0 ? "of unknown shape" : $"[{string.Join(", ", shape.Select(axis => axis < 0 ? "any" : axis.ToString(CultureInfo.InvariantCulture)))}]";

    private static string Kind(NormalizationSite site) => $"{site.Kind}".ToLowerInvariant();

    private static Text Cell(FormattableString value) => new(FormattableString.Invariant(value));

    private sealed record ModelReport(
        string Path,
        string Digest,
        long[] InputShape,
        string InputType,
        string InputLayout,
        int ClipFrames,
        JsonObject? Preprocessing,
        IReadOnlyList<OutputReport> Outputs,
        AnswerReport Answer,
        int Labels,
        string? DefaultMethod,
        IReadOnlyList<string> Verdict,
        string Calibration,
        int? FramesPerPass,
        IReadOnlyList<string> Notices,
        int SiteCount,
        int Channels,
        IReadOnlyList<SiteReport> Sites,
        IReadOnlyList<IdleSiteReport> IdleSites,
        IReadOnlyList<MethodReport> Methods);

    private sealed record OutputReport(string Name, long[] Shape, string Kind, string Reason, bool Predicts);

    private sealed record AnswerReport(string Kind, string Reason);

    private sealed record SiteReport(int Index, string Name, string Kind, int Channels, float Epsilon, float Momentum, bool Adapts);

    private sealed record IdleSiteReport(string Name, string Kind, int Channels);

    private sealed record MethodReport(string Method, long StateBytes, long? StreamsPerGibibyte, string? Unavailable, string? Caution);
}
