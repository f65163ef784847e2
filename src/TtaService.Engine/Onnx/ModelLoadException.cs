namespace TtaService.Engine.Onnx;

/// <summary>A model file that can't be served. The message lists every problem found, one a line, with node names.</summary>
public sealed class ModelLoadException : Exception
{
    public ModelLoadException(string message) : base(message)
    {
    }

    public ModelLoadException(string message, Exception innerException) : base(message, innerException)
    {
    }
}
