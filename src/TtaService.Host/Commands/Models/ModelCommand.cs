using System.CommandLine;
using System.Text.Encodings.Web;
using System.Text.Json;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Loading;

namespace TtaService.Host.Commands.Models;

/// <summary><c>tta model new</c>: writes a first <c>model.json</c> from what the graph and its exporter say.</summary>
internal static class ModelCommand
{
    private static readonly JsonSerializerOptions Indented = new() { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static Command Build() => new("model", "Makes model folders.") { BuildNew() };

    private static Command BuildNew()
    {
        var graph = new Argument<string>("model") { Description = "A folder with model.onnx, or an .onnx file, which is copied into a new folder unless it is called model.onnx." };
        var output = new Option<string?>("--output") { Description = "The new folder of an .onnx file; named after the file, beside it, when not given.", HelpName = "DIR" };
        var force = new Option<bool>("--force") { Description = "Replace a model.json that is there." };
        var command = new Command("new", "Writes a first model.json from what the graph and its exporter (ultralytics, timm) say.") { graph, output, force };
        command.SetAction(parsed =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var folder = Folder(parsed.GetRequiredValue(graph), parsed.GetValue(output));
            var path = Path.Combine(folder, "model.json");
            if (File.Exists(path) && !parsed.GetValue(force))
            {
                throw CommandException.WrongUse($"{path} is there already; edit it, or replace it with --force");
            }

            Write(terminal, folder, path);
            return 0;
        });
        return command;
    }

    private static void Write(Terminal terminal, string folder, string path)
    {
        var onnx = Path.Combine(folder, "model.onnx");
        ManifestDraft draft;
        using (var model = AdaptiveModel.Load(onnx))
        {
            Settle(model);
            draft = ManifestDraft.Of(model, folder);
        }

        File.WriteAllText(path, draft.Manifest.ToJsonString(Indented) + "\n");
        terminal.Line($"{path}");
        foreach (var note in draft.Notes)
        {
            terminal.Line($"- {note}");
        }

        // As the server will read it, so that what is written is known to work, or not.
        try
        {
            var location = ModelLocation.Resolve(onnx, null);
            using var model = location.Load(location.LoadOptions);
            foreach (var line in ModelVerdict.Of(model, location.Folder!, location.Folder!.DefaultMethod(model), null))
            {
                terminal.Line($"{line}");
            }
        }
        catch (ModelLoadException refused)
        {
            throw new CommandException($"{path} was written, but the model can't be served with it yet: {BrokenModel.From(string.Empty, refused).Reason}");
        }
    }

    // A pass shows what the graph's shapes leave open; a graph that fails it is refused below, with its reason.
    private static void Settle(AdaptiveModel model)
    {
        try
        {
            var preprocessing = ModelFolder.Of(Path.Combine("model", "model.onnx")).Preprocessing(model);
            model.Settle(WarmUp.Frames(new FramePipeline(preprocessing, new FrameOptions()), model.ClipFrames));
        }
        catch (Exception unfit) when (unfit is not OutOfMemoryException)
        {
            return;
        }
    }

    private static string Folder(string model, string? output)
    {
        if (File.Exists(Path.Combine(model, "model.onnx")))
        {
            return model;
        }

        if (!File.Exists(model))
        {
            throw CommandException.WrongUse($"'{model}' is no .onnx file and no folder with a model.onnx");
        }

        var full = Path.GetFullPath(model);
        var beside = Path.GetDirectoryName(full)!;
        if (Path.GetFileName(full) == "model.onnx" && output is null)
        {
            return beside;
        }

        var folder = output ?? Path.Combine(beside, Path.GetFileNameWithoutExtension(full));
        var target = Path.Combine(folder, "model.onnx");
        if (File.Exists(target))
        {
            throw CommandException.WrongUse($"{target} is there already; give that folder instead, or another --output");
        }

        Directory.CreateDirectory(folder);
        File.Copy(full, target);
        return folder;
    }
}
