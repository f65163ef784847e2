namespace TtaService.Client;

/// <summary>How an <see cref="AdaptationStream"/> reconnects, and how much it sends ahead.</summary>
public sealed record AdaptationStreamOptions
{
    /// <summary>Failed attempts in a row before it gives up. Default null: it tries for ever, until it is disposed or <see cref="GiveUpAfter"/> is over.</summary>
    public int? MaxAttempts { get; init; }

    /// <summary>The same for the first opening, where a wrong address shows. Default null: as <see cref="MaxAttempts"/>; the opening's cancellation ends it, too.</summary>
    public int? MaxOpenAttempts { get; init; }

    /// <summary>Longest time without a connection before it gives up. Default null: no limit.</summary>
    public TimeSpan? GiveUpAfter { get; init; }

    /// <summary>Wait before the second attempt; doubled with each further one, and jittered by a half. A longer delay that the server names wins. Default 100 ms.</summary>
    public TimeSpan FirstDelay { get; init; } = TimeSpan.FromMilliseconds(100);

    /// <summary>Longest wait between two attempts, before jitter. Default 5 s.</summary>
    public TimeSpan MaxDelay { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Longest wait for the server to open the stream before the attempt counts as failed: a server that hangs does not answer for ever. Default 60 s,
    /// twice what a server waits for a silent owner.</summary>
    public TimeSpan OpenTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>How often one step is sent over connections that break before its answer; then it alone fails, so that a step that ends every connection does not
    /// stop the camera. Default 20.</summary>
    public int MaxSends { get; init; } = 20;

    /// <summary>Steps that may wait for their answer; <see cref="AdaptationStream.StepAsync"/> refuses further ones, so that a server that falls behind does not
    /// fill the client's memory. Default 256.</summary>
    public int MaxUnanswered { get; init; } = 256;

    /// <summary>Told of everything besides answers: disconnected, reconnected, state lost or rewound, gave up. Called in order, between answers; return soon. What
    /// it throws ends the stream. Default null.</summary>
    public Action<StreamEvent>? OnEvent { get; init; }

    /// <summary>The clock of the waits.</summary>
    public TimeProvider Clock { get; init; } = TimeProvider.System;
}
