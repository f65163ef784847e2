using TtaService.Engine;

namespace TtaService.Host.Grpc;

/// <summary>The text of an error as it leaves the server, by whatever protocol.</summary>
internal static class ErrorText
{
    /// <summary>Most bytes, in UTF-8.</summary>
    public const int MaxBytes = 1000;

    public static string Of(string message) => ForeignText.Clip(message, MaxBytes);
}
