using TtaService.Engine.Onnx;

namespace TtaService.Serving.Models;

/// <summary>A model of the repository that can't be served.</summary>
/// <param name="Name">Its folder's name.</param>
/// <param name="Reason">What is wrong with it and what to do, in one line.</param>
public sealed record BrokenModel(string Name, string Reason)
{
    /// <summary>Why a model could not be loaded or did not survive its first pass. Not listed there, it is a defect of the program or of the graph; what it said first says
    /// most.</summary>
    public static BrokenModel From(string name, Exception failure) => new(name, failure switch
    {
        ModelLoadException known => OneLine(known.Message),
        OutOfMemoryException => "there is not enough memory to load it; give the process more, or serve fewer models",
        _ => $"its first pass failed ({failure.GetType().Name}: {failure.Message.Split('\n')[0].Trim()}); tta inspect says what the graph takes",
    });

    private static string OneLine(string message) =>
        string.Join("; ", message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)).Replace(":; ", ": ", StringComparison.Ordinal);
}
