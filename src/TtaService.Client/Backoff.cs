using System.Security.Cryptography;

namespace TtaService.Client;

/// <summary>The waits between attempts: doubled up to a limit, jittered, at least what the server asks for.</summary>
internal sealed class Backoff(AdaptationStreamOptions options)
{
    private readonly long _start = options.Clock.GetTimestamp();
    private long? _brokenAt;

    /// <summary>Failed attempts in a row.</summary>
    public int Failed { get; private set; }

    /// <summary>Since the connection broke, or since the first attempt.</summary>
    public TimeSpan Away => options.Clock.GetElapsedTime(_brokenAt ?? _start);

    /// <summary>Forgets the failures: the connection holds.</summary>
    public void Succeeded() => (Failed, _brokenAt) = (0, null);

    /// <summary>Counts a failure; false when it was the last that may be.</summary>
    public bool Fail(bool wasOpen)
    {
        _brokenAt ??= wasOpen ? options.Clock.GetTimestamp() : _start;
        Failed++;
        var most = wasOpen ? options.MaxAttempts : options.MaxOpenAttempts ?? options.MaxAttempts;
        return (most is null || Failed < most) && (options.GiveUpAfter is not { } limit || Away < limit);
    }

    /// <summary>The wait after as many failures.</summary>
    public TimeSpan Delay(TimeSpan asked)
    {
        var doubled = Math.Min(options.FirstDelay.TotalMilliseconds * Math.Pow(2, Math.Min(Failed - 1, 30)), options.MaxDelay.TotalMilliseconds);
        // Cameras that lost one server must not come back in step.
        var jittered = TimeSpan.FromMilliseconds(doubled * (0.5 + (RandomNumberGenerator.GetInt32(1000) / 1000.0)));
        return jittered > asked ? jittered : asked;
    }
}
