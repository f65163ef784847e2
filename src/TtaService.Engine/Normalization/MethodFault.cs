namespace TtaService.Engine.Normalization;

/// <summary>What is told of a method that failed in its own code.</summary>
internal static class MethodFault
{
    private const int ToldBytes = 300;

    /// <summary>Whether what was thrown in a method's code is its own failure, and not that of the process.</summary>
    public static bool IsOwn(Exception thrown) => thrown is not OutOfMemoryException;

    /// <summary>Whether a method is of another assembly than the engine, whose code nobody here has tested.</summary>
    public static bool IsForeign(INormalizationMethod method) => method.GetType().Assembly != typeof(MethodFault).Assembly;

    /// <summary>A sentence for whoever sent the step or opened the stream.</summary>
    /// <param name="method">Its name.</param>
    /// <param name="doing">What it was about: <c>at site 'bn1'</c>.</param>
    /// <param name="thrown">What came out of it.</param>
    public static string Message(string method, string doing, Exception thrown)
    {
        // Of torch's errors the first line tells; native frames follow.
        var text = thrown.Message.AsSpan().Trim();
        var end = text.IndexOfAny('\r', '\n');
        var told = thrown is MethodAnswerException ? "" : $"{thrown.GetType().Name}: ";
        return $"method {method} failed {doing}: {told}{ForeignText.Clip((end < 0 ? text : text[..end]).ToString(), ToldBytes)}; "
            + "the fault is in the method's code: tell its author, or open the stream with another method";
    }
}

/// <summary>An answer of a method that is none.</summary>
internal sealed class MethodAnswerException(string message) : Exception(message);
