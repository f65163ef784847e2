using System.Globalization;
using System.Text.Json;
using Grpc.Core;
using TtaService.V1;

namespace TtaService.Host.Commands.Streaming;

/// <summary>Asks now and then how far a stream has drifted. One question at a time.</summary>
internal sealed class DriftWatch(RemoteServer server, string stream)
{
    // A sweep of the server is ten seconds; a stream is never held up for it.
    private static readonly TimeSpan Period = TimeSpan.FromSeconds(5);
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(2);

    private volatile string? _text;
    private long _asked = long.MinValue;
    private Task _asking = Task.CompletedTask;

    /// <summary>The latest answer, for people; null when nothing is known.</summary>
    public string? Text => _text;

    /// <summary>Asks again when it is time to, and does not wait.</summary>
    public void Look()
    {
        var now = TimeProvider.System.GetTimestamp();
        if (_asking.IsCompleted && (_asked == long.MinValue || TimeProvider.System.GetElapsedTime(_asked, now) >= Period))
        {
            _asked = now;
            _asking = AskAsync();
        }
    }

    /// <summary>Asks, and waits for the answer.</summary>
    public async Task AskAsync()
    {
        try
        {
            var deadline = TimeProvider.System.GetUtcNow().UtcDateTime + Patience;
            var drift = await server.Client.Drift.GetDriftAsync(new GetDriftRequest { Stream = stream }, deadline: deadline).ConfigureAwait(false);
            var level = JsonNamingPolicy.SnakeCaseLower.ConvertName(drift.Level.ToString()).Replace('_', ' ');
            var score = drift.HasScore ? string.Create(CultureInfo.InvariantCulture, $" {drift.Score:0.00}") : string.Empty;
            _text = string.Create(CultureInfo.InvariantCulture, $"drift {level}{score}, {drift.ObservedFrames:N0} frames observed");
        }
        catch (RpcException)
        {
            // Nothing was observed yet, drift is not watched, or the server is away, which the stream itself tells.
        }
    }
}
