using Microsoft.Extensions.Options;
using TtaService.Serving.Streams;

namespace TtaService.Serving.Store;

/// <summary>Opens the store after the models are loaded and before the listeners open; a store that can't be used ends the start with its reason.</summary>
internal sealed partial class StoreStart(StreamKeeper keeper, ModelCatalog models, IOptions<StoreOptions> options, TimeProvider clock, ILogger<StoreStart> logger) : IHostedService
{
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var settings = options.Value;
        var key = settings.SigningKeyFile is { } file ? await File.ReadAllBytesAsync(file, cancellationToken).ConfigureAwait(false) : null;
        var codec = new SnapshotCodec(settings.Encoding, digest => models.All.FirstOrDefault(model => model.Engine.Model.Digest == digest)?.Engine.Model.Sites);
        var seal = new CheckpointSeal(codec, key, clock);
        keeper.Use(settings.Kind switch
        {
            StoreKind.Memory => new MemoryStreamStateStore(settings, seal, clock),
            StoreKind.File => new FileStreamStateStore(settings, seal, clock),
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
