using TtaService.V1;

namespace TtaService.Client;

/// <summary>A step that the server refused or failed; the stream's state is as it was and the stream stays open.</summary>
public sealed class StepFailedException(StepError error) : Exception($"{error.Reason}: {error.Message}")
{
    /// <summary>What the server answered: code, reason, and when to try again.</summary>
    public StepError Error { get; } = error;
}
