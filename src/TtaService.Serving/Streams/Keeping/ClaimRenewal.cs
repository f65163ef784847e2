using Microsoft.Extensions.Options;
using TtaService.Serving.Loops;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>Confirms the claims of all streams, whatever else the store has to do: an owner that gives no sign of life for <see cref="StoreOptions.OwnerTimeout"/> has lost its
/// streams.</summary>
internal sealed class ClaimRenewal(StreamDirectory directory, StreamClaims claims, StoreHealth health, LoopWatch loops, IOptions<StoreOptions> options, TimeProvider clock)
    : BackgroundLoop(loops, LoopKind.ClaimRenewal, "the renewal of claims", options.Value.RenewInterval, clock)
{
    private const int ClaimsAtATime = 500;

    protected override async Task TurnAsync(CancellationToken stop)
    {
        foreach (var claimed in directory.Loaded.Chunk(ClaimsAtATime))
        {
            if (!health.MayTry)
            {
                return;
            }

            stop.ThrowIfCancellationRequested();
            await RenewAsync(claimed, stop).ConfigureAwait(false);
            Beat.Turned();
        }
    }

    private async Task RenewAsync(StreamSession[] claimed, CancellationToken stop)
    {
        try
        {
            await claims.RenewAsync(claimed).ConfigureAwait(false);
        }
        catch (Exception) when (!stop.IsCancellationRequested)
        {
            // One of them spoils it for the others; by itself it is named.
            foreach (var session in claimed)
            {
                await Beat.TryAsync($"the claim of stream '{session.Name}'", () => claims.RenewAsync([session]), stop).ConfigureAwait(false);
            }
        }
    }
}
