using Grpc.Core;
using StackExchange.Redis;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>A record in Redis that can't be read is its stream's error; an outage is an outage.</summary>
public sealed class RedisRecordTests
{
    [Theory]
    [InlineData("string")]
    [InlineData("list")]
    [InlineData("junk")]
    public async Task BadRecord_IsThatStreamsErrorWithoutALuaWord(string kind)
    {
        await using var redis = await RedisServer.StartAsync();
        await using (var before = await ReplicaTests.StartAsync(redis, "a"))
        {
            await before.StepAsync("bad", TestFrames.Tensor(1));
            await before.StepAsync("good", TestFrames.Tensor(1));
        }

        await using var connection = await ConnectionMultiplexer.ConnectAsync(redis.Configuration);
        await SpoilAsync(connection.GetDatabase(), "tta:stream:bad", kind);
        await using var host = await ReplicaTests.StartAsync(redis, "b");

        var refused = await RpcAssert.RefusedAsync(StatusCode.FailedPrecondition, "STORED_STREAM_UNREADABLE", () => DuplexClient.OpenAsync(host, "bad"));
        using var good = await DuplexClient.OpenAsync(host, "good");
        var listed = await host.Streams.ListStreamsAsync(new ListStreamsRequest());

        Assert.DoesNotContain("script", refused.Message, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("nil", refused.Message, StringComparison.OrdinalIgnoreCase);
        Assert.Contains("DeleteStream", refused.Message, StringComparison.Ordinal);
        Assert.Equal((V1.StateOrigin.Restored, 1), (good.Opened.Origin, good.Opened.Age.Steps));
        Assert.Empty(good.Opened.Warnings);
        Assert.Equal(["good"], listed.Streams.Select(stream => stream.Name));
        Assert.Empty(listed.Warnings);
        Assert.Null(host.Part<StoreHealth>().Trouble);

        await host.Streams.DeleteStreamAsync(new DeleteStreamRequest { Name = "bad" });
        using var anew = await DuplexClient.OpenAsync(host, "bad");
        Assert.Equal(V1.StateOrigin.Fresh, anew.Opened.Origin);
    }

    [Fact]
    public async Task BadRecord_OfAStreamThatRuns_LeavesTheOthersTheirCheckpoints()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var host = await ReplicaTests.StartAsync(redis, "a", "--Store:StopTimeout=00:00:01");
        host.ExpectsDefects = true;
        await host.StepAsync("bad", TestFrames.Tensor(1));
        await host.StepAsync("good", TestFrames.Tensor(1));
        await ReplicaTests.SavedAsync(host, "bad");
        await using var connection = await ConnectionMultiplexer.ConnectAsync(redis.Configuration);
        await SpoilAsync(connection.GetDatabase(), "tta:stream:bad", "string");

        for (var i = 2; i <= 4; i++)
        {
            Assert.Equal(i, (await host.StepAsync("bad", TestFrames.Tensor(i))).Step);
            Assert.Equal(i, (await host.StepAsync("good", TestFrames.Tensor(i))).Step);
            await ReplicaTests.SavedAsync(host, "good");
            Assert.Null(host.Part<StoreHealth>().Trouble);
        }
    }

    [Fact]
    public async Task MemoryFull_IsAnOutageAndTheWarningGoesWithIt()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var host = await ReplicaTests.StartAsync(redis, "a");
        await using var connection = await ConnectionMultiplexer.ConnectAsync($"{redis.Configuration},allowAdmin=true");
        await connection.GetServers()[0].ConfigSetAsync("maxmemory", "1");

        var during = await OpenAsync(host);
        var trouble = host.Part<StoreHealth>().Trouble;
        await connection.GetServers()[0].ConfigSetAsync("maxmemory", "0");
        await host.UntilAsync("camera", session => session.Keeping.Claim is not null && !session.Keeping.Dirty);
        var after = await OpenAsync(host);

        Assert.Contains(during, warning => warning.Contains("out of reach", StringComparison.Ordinal));
        Assert.DoesNotContain("script", trouble, StringComparison.Ordinal);
        Assert.Empty(after);
    }

    [Fact]
    public async Task List_PageByPage_ReadsTheIndexAndForgetsWhatIsGone()
    {
        await using var redis = await RedisServer.StartAsync();
        await using var store = await RedisStreamStateStore.ConnectAsync(new StoreOptions { RedisConfiguration = redis.Configuration }, StoreTestParts.Seal());
        string[] names = [.. Enumerable.Range(0, 25).Select(i => $"s{i:D2}")];
        foreach (var name in names)
        {
            await store.WriteAsync(await store.ClaimAsync(name), 1);
        }

        await using var connection = await ConnectionMultiplexer.ConnectAsync(redis.Configuration);
        var database = connection.GetDatabase();
        // As an earlier version left it: no index; and one that expired.
        await database.KeyDeleteAsync("tta:streams");
        await database.KeyDeleteAsync("tta:stream:s07");
        var listed = new List<string>();
        var after = "";
        while (true)
        {
            var page = await store.ListAsync(after, 10, CancellationToken.None);
            listed.AddRange(page.Select(stream => stream.Latest.Stream));
            if (page.Count < 10)
            {
                break;
            }

            after = page[^1].Latest.Stream;
        }

        Assert.Equal(names.Where(name => name != "s07"), listed);
        await database.KeyDeleteAsync("tta:stream:s08");
        Assert.Equal("s09", (await store.ListAsync("s06", 1, CancellationToken.None))[0].Latest.Stream);
        Assert.Null(await database.SortedSetScoreAsync("tta:streams", "s08"));
    }

    private static async Task<IReadOnlyList<string>> OpenAsync(TestHost host)
    {
        using var call = await DuplexClient.OpenAsync(host, "camera");
        await call.StepAsync(0, TestFrames.Tensor(1));
        return [.. call.Opened.Warnings];
    }

    private static async Task SpoilAsync(IDatabase database, string key, string kind)
    {
        if (kind == "junk")
        {
            foreach (var field in await database.HashKeysAsync(key))
            {
                await database.HashSetAsync(key, field, "<junk>");
            }

            return;
        }

        await database.KeyDeleteAsync(key);
        await (kind == "string" ? (Task)database.StringSetAsync(key, "garbage") : database.ListLeftPushAsync(key, "garbage"));
    }
}
