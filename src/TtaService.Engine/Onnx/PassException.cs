namespace TtaService.Engine.Onnx;

/// <summary>A pass that can't be run on these frames: what a node would make does not fit what the graph, its parameters or the memory allow. Nothing was changed.</summary>
internal sealed class PassException(string message) : Exception(message);
