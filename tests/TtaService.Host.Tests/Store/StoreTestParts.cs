using Microsoft.Extensions.Time.Testing;
using TtaService.Engine.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Store;

/// <summary>Stores as the host makes them, without a host.</summary>
internal static class StoreTestParts
{
    public const string Model = "aa";

    public static CheckpointSeal Seal(byte[]? key = null, TimeProvider? clock = null) =>
        new(new SnapshotCodec(SnapshotEncoding.Lossless, _ => null), key, clock ?? TimeProvider.System);

    public static LocalStreamStateStore File(string folder, Action<StoreOptions>? set = null, TimeProvider? clock = null)
    {
        var options = new StoreOptions { Path = folder };
        set?.Invoke(options);
        return LocalStreamStateStore.Over(new FileBlobs(options, clock ?? TimeProvider.System), options, Seal(clock: clock), clock ?? TimeProvider.System);
    }

    /// <summary>A snapshot whose content tells its step.</summary>
    public static byte[] Snapshot(long step, int floats = 64) => Safetensors.Write(
        new Dictionary<string, string>
        {
            ["format"] = "tta.stream.v1",
            ["model"] = Model,
            ["method"] = "ema",
            ["hyperparameters"] = "{}",
            ["step"] = $"{step}",
            ["frames"] = $"{step}",
            ["seed"] = "0",
        },
        [("site.ema_mean", [floats], [.. Enumerable.Repeat((float)step, floats)])]);

    public static PendingCheckpoint Pending(long step, int floats = 64) => new(Snapshot(step, floats), (ulong)step, step, "cmVjb3Jk");

    public static async Task<StreamClaim> ClaimAsync(this IStreamStateStore store, string stream, string owner = "a") =>
        (await store.OpenAsync(stream, owner, OpenPolicy.Replace, CancellationToken.None)).Claim!.Value;

    public static Task<CheckpointWrite> WriteAsync(this IStreamStateStore store, StreamClaim claim, long step, int floats = 64) =>
        store.CheckpointAsync(claim, Pending(step, floats), CancellationToken.None);

    /// <summary>A store of a kind with what it needs.</summary>
    public sealed class Any : IAsyncDisposable
    {
        private TestFolder? _folder;
        private RedisServer? _redis;

        public required IStreamStateStore Store { get; init; }

        public FakeTimeProvider Clock { get; private init; } = new();

        public static async Task<Any> StartAsync(string kind, Action<StoreOptions>? set = null)
        {
            var clock = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
            var options = new StoreOptions();
            set?.Invoke(options);
            var folder = kind == "file" ? new TestFolder() : null;
            var redis = kind == "redis" ? await RedisServer.StartAsync() : null;
            options.Path = folder?.Path ?? options.Path;
            options.RedisConfiguration = redis?.Configuration;
            return new Any
            {
                _folder = folder,
                _redis = redis,
                Clock = clock,
                Store = kind switch
                {
                    "memory" => LocalStreamStateStore.Over(new MemoryBlobs(), options, Seal(clock: clock), clock),
                    "file" => LocalStreamStateStore.Over(new FileBlobs(options, clock), options, Seal(clock: clock), clock),
                    _ => await RedisStreamStateStore.ConnectAsync(options, Seal(clock: clock)),
                },
            };
        }

        public async ValueTask DisposeAsync()
        {
            await Store.DisposeAsync();
            _folder?.Dispose();
            if (_redis is not null)
            {
                await _redis.DisposeAsync();
            }
        }
    }
}
