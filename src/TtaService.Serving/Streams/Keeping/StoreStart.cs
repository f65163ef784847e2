using Microsoft.Extensions.Options;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>Opens the store after the models are loaded and before the listeners open; a store that can't be used ends the start with its reason.</summary>
internal sealed partial class StoreStart(
    RetryingStreamStateStore store,
    ModelCatalog models,
    DroppedStreams dropped,
    IOptions<StoreOptions> options,
    TimeProvider clock,
    ILogger<StoreStart> logger) : IHostedService
{
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var settings = options.Value;
        var key = settings.SigningKeyFile is { } file ? await File.ReadAllBytesAsync(file, cancellationToken).ConfigureAwait(false) : null;
        var codec = new SnapshotCodec(settings.Encoding, digest => models.Engines.FirstOrDefault(model => model.Engine.Model.Digest == digest)?.Engine.Model.Sites);
        var seal = new CheckpointSeal(codec, key, clock);
        store.Use(settings.Kind switch
        {
            StoreKind.Memory => LocalStreamStateStore.Over(new MemoryBlobs(), settings, seal, clock, dropped.Add),
            StoreKind.File => LocalStreamStateStore.Over(new FileBlobs(settings, clock), settings, seal, clock, dropped.Add),
            _ => await RedisStreamStateStore.ConnectAsync(settings, seal).ConfigureAwait(false),
        });
        Log.StoreOpened(logger, settings.Kind, settings.Replica);
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private static partial class Log
    {
        [LoggerMessage(EventId = 59, Level = LogLevel.Information, Message = "StoreOpened: {Kind}, this replica is {Replica}")]
        public static partial void StoreOpened(ILogger logger, StoreKind kind, string replica);
    }
}
