using System.Diagnostics;
using System.Globalization;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Store;

/// <summary>What every store promises.</summary>
public sealed class StreamStateStoreTests
{
    private const int Schedules = 300;

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Open_AfterClose_ReadsTheLastCheckpoint(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        var claim = await any.Store.ClaimAsync("Camera/1 ü");
        await any.Store.WriteAsync(claim, 1);
        await any.Store.CloseAsync(claim, StoreTestParts.Pending(2), CancellationToken.None);

        var opening = await any.Store.OpenAsync("Camera/1 ü", "b", OpenPolicy.Reject, CancellationToken.None);

        Assert.Equal(OpenStatus.Owned, opening.Status);
        Assert.Equal((2, 2ul, "cmVjb3Jk"), (opening.Checkpoint!.Description.Step, opening.Checkpoint.Description.Sequence, opening.Checkpoint.Record));
        Assert.True(opening.Claim!.Value.Epoch > claim.Epoch);
        Assert.Null(opening.PreviousOwner);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Write_AfterAnotherOpened_IsFencedAndChangesNothing(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        var stale = await any.Store.ClaimAsync("s", "a");
        await any.Store.WriteAsync(stale, 1);
        var current = await any.Store.ClaimAsync("s", "b");
        await any.Store.WriteAsync(current, 5);

        var late = await any.Store.WriteAsync(stale, 9);
        var lateClose = await any.Store.CloseAsync(stale, StoreTestParts.Pending(10), CancellationToken.None);

        Assert.Equal((WriteStatus.Fenced, "b"), (late.Status, late.Owner));
        Assert.Equal(WriteStatus.Fenced, lateClose.Status);
        Assert.Equal([new FencedClaim(stale, current.Epoch, "b")], await any.Store.RenewAsync([stale, current], CancellationToken.None));
        Assert.Equal([5, 1], (await any.Store.CheckpointsAsync("s", CancellationToken.None)).Select(checkpoint => checkpoint.Step));
    }

    /// <summary>TTA_CLAIMS sets how many streams there are; the test's output says how long a turn of the renewal takes.</summary>
    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Renew_ClaimsOfManyStreams_ConfirmsEachAndNamesTheOneThatIsLost(string kind)
    {
        var streams = int.TryParse(Environment.GetEnvironmentVariable("TTA_CLAIMS"), CultureInfo.InvariantCulture, out var wanted) ? wanted : 1200;
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.MaxStreams = streams);
        var claims = new List<StreamClaim>();
        foreach (var names in Enumerable.Range(0, streams).Select(i => $"camera-{i}").Chunk(100))
        {
            claims.AddRange(await Task.WhenAll(names.Select(name => any.Store.ClaimAsync(name))));
            await Task.WhenAll(claims.TakeLast(names.Length).Select(claim => any.Store.WriteAsync(claim, 1)));
        }

        var taken = await any.Store.ClaimAsync("camera-700", "b");
        List<double> turns = [];
        for (var turn = 0; turn < 3; turn++)
        {
            var began = Stopwatch.GetTimestamp();
            var fenced = new List<FencedClaim>();
            foreach (var some in claims.Chunk(500))
            {
                fenced.AddRange(await any.Store.RenewAsync(some, CancellationToken.None));
            }

            turns.Add(Stopwatch.GetElapsedTime(began).TotalSeconds);
            Assert.Equal([new FencedClaim(claims[700], taken.Epoch, "b")], fenced);
        }

        TestContext.Current.SendDiagnosticMessage("{0}: {1} claims are renewed in {2:0.000} s", kind, streams, turns.Order().ElementAt(1));
        TestContext.Current.TestOutputHelper?.WriteLine($"{kind}: {streams} claims are renewed in {turns.Order().ElementAt(1):0.000} s");
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Write_OlderVersionArrivesLate_DoesNotReplaceTheNewer(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        var claim = await any.Store.ClaimAsync("s");
        await any.Store.WriteAsync(claim, 7);

        await any.Store.WriteAsync(claim, 6);

        Assert.Equal([7], (await any.Store.CheckpointsAsync("s", CancellationToken.None)).Select(checkpoint => checkpoint.Step));
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Open_PolicyReject_LeavesALiveOwnerTheStream(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.OwnerTimeout = TimeSpan.FromMinutes(10));
        var claim = await any.Store.ClaimAsync("s", "a");

        var refused = await any.Store.OpenAsync("s", "b", OpenPolicy.Reject, CancellationToken.None);
        var own = await any.Store.OpenAsync("s", "a", OpenPolicy.Reject, CancellationToken.None);

        Assert.Equal((OpenStatus.Held, "a"), (refused.Status, refused.PreviousOwner));
        Assert.InRange(refused.RetryAfter, TimeSpan.FromMinutes(9), TimeSpan.FromMinutes(10));
        Assert.Equal(OpenStatus.Owned, own.Status);
        Assert.Equal(WriteStatus.Fenced, (await any.Store.WriteAsync(claim, 1)).Status);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Open_TakenOverTooOften_IsLimited(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.MaxTakeoversPerMinute = 3);
        for (var i = 0; i <= 3; i++)
        {
            await any.Store.ClaimAsync("s", $"replica {i}");
        }

        var limited = await any.Store.OpenAsync("s", "one more", OpenPolicy.Replace, CancellationToken.None);

        Assert.Equal((OpenStatus.TakeoverLimited, "replica 3", 3), (limited.Status, limited.PreviousOwner, limited.Takeovers));
        Assert.InRange(limited.RetryAfter, TimeSpan.FromSeconds(1), TimeSpan.FromMinutes(1));
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Checkpoints_PastTheLimit_KeepTheNewest(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.KeepCheckpoints = 3);
        var claim = await any.Store.ClaimAsync("s");
        for (var step = 1; step <= 10; step++)
        {
            await any.Store.WriteAsync(claim, step);
        }

        var kept = await any.Store.CheckpointsAsync("s", CancellationToken.None);

        Assert.Equal([10, 9, 8], kept.Select(checkpoint => checkpoint.Step));
        Assert.Equal(9, (await any.Store.ReadAsync("s", kept[1].Number, CancellationToken.None))!.Description.Step);
        Assert.Null(await any.Store.ReadAsync("s", kept[2].Number - 1, CancellationToken.None));
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task List_ManyStreams_PagesInOrder(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        foreach (var name in new[] { "c", "a", "b", "never written" })
        {
            var claim = await any.Store.ClaimAsync(name);
            if (name.Length == 1)
            {
                await any.Store.WriteAsync(claim, 1);
            }
        }

        var first = await any.Store.ListAsync(null, 2, CancellationToken.None);
        var second = await any.Store.ListAsync(first[^1].Latest.Stream, 2, CancellationToken.None);

        Assert.Equal(["a", "b"], first.Select(stream => stream.Latest.Stream));
        Assert.Equal(["c"], second.Select(stream => stream.Latest.Stream));
        Assert.Equal("a", first[0].Owner);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Delete_OwnedStream_FencesItsOwner(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        var claim = await any.Store.ClaimAsync("s");
        await any.Store.WriteAsync(claim, 1);

        Assert.True(await any.Store.DeleteAsync("s", CancellationToken.None));

        Assert.Equal((WriteStatus.Fenced, null), ((await any.Store.WriteAsync(claim, 2)) is var late ? (late.Status, late.Owner) : default));
        Assert.False(await any.Store.DeleteAsync("s", CancellationToken.None));
        Assert.Null((await any.Store.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None)).Checkpoint);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    [InlineData("redis")]
    public async Task Reject_LatestCheckpoint_StartsAnewUntilTheNextOne(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind);
        var claim = await any.Store.ClaimAsync("s");
        var written = await any.Store.WriteAsync(claim, 1);
        await any.Store.RejectAsync(claim, written.Number, "foreign: of another model", CancellationToken.None);

        var again = await any.Store.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None);
        await any.Store.WriteAsync(again.Claim!.Value, 1);
        var after = await any.Store.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None);

        Assert.Contains("foreign", again.Refused, StringComparison.Ordinal);
        Assert.Null(again.Checkpoint);
        Assert.Equal((null, 1), (after.Refused, after.Checkpoint!.Description.Step));
    }

    // Replicas open, write, lose sight of time and write again, in any order: what is stored is always of the last opener, and never goes back.
    [Theory]
    [InlineData("memory")]
    [InlineData("redis")]
    public async Task RandomSchedules_StaleOwners_NeverOverwriteANewerState(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.MaxTakeoversPerMinute = 100_000);
        for (var seed = 0; seed < Schedules; seed++)
        {
            var random = new Random(seed);
            var stream = $"s{seed}";
            var claims = new StreamClaim?[3];
            StreamClaim? last = null;
            long step = 0;
            long stored = 0;
            for (var action = 0; action < 20; action++)
            {
                var replica = random.Next(claims.Length);
                if (claims[replica] is not { } claim || random.Next(4) == 0)
                {
                    var opening = await any.Store.OpenAsync(stream, $"replica {replica}", OpenPolicy.Replace, CancellationToken.None);
                    Assert.True(opening.Checkpoint?.Description.Step == (stored == 0 ? null : stored),
                        $"seed {seed}: opened at {opening.Checkpoint?.Description.Step}, stored is {stored}");
                    last = claims[replica] = opening.Claim;
                    continue;
                }

                var write = await any.Store.WriteAsync(claim, ++step);
                Assert.True((write.Status == WriteStatus.Saved) == (claim == last), $"seed {seed}: {write.Status} for {(claim == last ? "the owner" : "a stale owner")}");
                stored = write.Status == WriteStatus.Saved ? step : stored;
            }
        }
    }
}
