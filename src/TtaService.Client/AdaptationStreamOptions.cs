namespace TtaService.Client;

/// <summary>How an <see cref="AdaptationStream"/> reconnects.</summary>
public sealed record AdaptationStreamOptions
{
    /// <summary>Attempts to connect in a row before it gives up. Default 10: about half a minute.</summary>
    public int MaxAttempts { get; init; } = 10;

    /// <summary>Wait before the second attempt; doubled with each further one, and jittered by a half. A longer delay that the server names wins. Default 100 ms.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Longest wait between two attempts. Default 5 s.</summary>
    public TimeSpan MaxDelay { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Steps that may wait for their answer; <see cref="AdaptationStream.StepAsync"/> refuses further ones, so that a server that falls behind does not fill the client's memory. Default 256.</summary>
    public int MaxUnanswered { get; init; } = 256;

    /// <summary>The clock of the waits.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
