namespace TtaService.Engine.Onnx;

/// <summary>A model file that can't be served. The message lists every problem found, one a line, with node names.</summary>
public sealed class ModelLoadException : Exception
{
    /// <param name="message">What was wrong, and where.</param>
    public ModelLoadException(string message) : base(message)
    {
    }

    /// <param name="message">What was wrong, and where.</param>
    /// <param name="innerException">What told so.</param>
    public ModelLoadException(string message, Exception innerException) : base(message, innerException)
    {
    }
}
