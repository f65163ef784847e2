using TtaService.Engine.Execution;
using TtaService.Evaluation;
using TtaService.Serving.Frames;

namespace TtaService.Host.Commands.Evaluation;

/// <summary>Labelled data, preprocessed for a model as the server would.</summary>
internal static class EvaluationData
{
    // The published corruptions are files, the same for every run; ours are a seed.
    public const int CorruptionSeed = 0;

    /// <summary>Labelled frames, in folders of the model's classes where each class has one.</summary>
    public static EvaluationFrames Open(ModelLocation location, AdaptiveModel model, string? data, IReadOnlyList<EvaluationDomain> domains)
    {
        var classes = model.Scores?.Classes is { } count && location.Folder is { } folder ? new ModelClasses(count, folder.Labels) : null;
        return Open(location, model, data, domains, (path, decode) => LabelledImages.Open(path, decode, classes));
    }

    /// <summary>Frames as they are, with or without labels.</summary>
    public static EvaluationFrames OpenFrames(ModelLocation location, AdaptiveModel model, string? data) =>
        Open(location, model, data, [new EvaluationDomain(null, 1)], LabelledImages.OpenFrames);

    private static EvaluationFrames Open(
        ModelLocation location,
        AdaptiveModel model,
        string? data,
        IReadOnlyList<EvaluationDomain> domains,
        Func<string, Func<string, Image>, LabelledImages> open)
    {
        var folder = location.Folder ?? throw CommandException.WrongUse($"{location.OnnxPath} has no model folder around it, so nothing says how frames are preprocessed; "
            + "put it into a folder as model.onnx, with a model.json");
        // A person's own files: only the size of memory limits them.
        var pipeline = new FramePipeline(folder.Preprocessing(model), new FrameOptions { MaxBytes = int.MaxValue, MaxPixels = 1 << 28, MaxSide = 65_535 });
        var images = open(data ?? Sample(location), path => Decode(pipeline, path));
        return new EvaluationFrames(images, domains, CorruptionSeed, image => Preprocess(pipeline, image));
    }

    /// <summary>The labelled sample beside a model.</summary>
    public static string Sample(ModelLocation location) =>
        location.Folder is { } folder && Directory.Exists(Path.Combine(folder.FolderPath, "sample"))
            ? Path.Combine(folder.FolderPath, "sample")
            : throw CommandException.WrongUse("the model has no sample folder beside it; name labelled data with --data");

    private static Image Decode(FramePipeline pipeline, string path)
    {
        try
        {
            var chw = new byte[pipeline.FrameBytes];
            pipeline.DecodeEncoded(File.ReadAllBytes(path), chw);
            return Interleave(pipeline, chw);
        }
        catch (FrameException refused)
        {
            throw new DataFormatException($"{path}: {refused.Message}");
        }
    }

    private static Image Preprocess(FramePipeline pipeline, Image image)
    {
        if (image.Height == pipeline.Height && image.Width == pipeline.Width && image.Channels == pipeline.Channels)
        {
            return image;
        }

        var chw = new byte[pipeline.FrameBytes];
        pipeline.DecodeRaw(image.Pixels, image.Width, image.Height, image.Width * image.Channels, image.Channels, chw);
        return Interleave(pipeline, chw);
    }

    private static Image Interleave(FramePipeline pipeline, byte[] chw)
    {
        var plane = pipeline.Height * pipeline.Width;
        var pixels = new byte[chw.Length];
        for (var i = 0; i < chw.Length; i++)
        {
            pixels[(i % plane * pipeline.Channels) + (i / plane)] = chw[i];
        }

        return new Image(pipeline.Height, pipeline.Width, pipeline.Channels, pixels);
    }
}
