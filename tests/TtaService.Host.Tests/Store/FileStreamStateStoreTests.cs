using Microsoft.Extensions.Time.Testing;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;

namespace TtaService.Host.Tests.Store;

public sealed class FileStreamStateStoreTests
{
    [Fact]
    public async Task Reopened_AfterAnotherProcess_GoesOnWithLaterEpochs()
    {
        using var folder = new TestFolder();
        StreamClaim before;
        await using (var store = StoreTestParts.File(folder.Path))
        {
            before = await store.ClaimAsync("s");
            await store.WriteAsync(before, 4);
        }

        // A clock that went back a year must not make old claims valid.
        await using var again = StoreTestParts.File(folder.Path, clock: new FakeTimeProvider(TimeProvider.System.GetUtcNow().AddYears(-1)));
        var opening = await again.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None);

        Assert.Equal(4, opening.Checkpoint!.Description.Step);
        Assert.True(opening.Claim!.Value.Epoch > before.Epoch);
        Assert.Equal(WriteStatus.Fenced, (await again.WriteAsync(before, 5)).Status);
        Assert.Equal(WriteStatus.Saved, (await again.WriteAsync(opening.Claim.Value, 5)).Status);
    }

    [Fact]
    public void SecondStore_SameFolder_IsRefusedWithTheReason()
    {
        using var folder = new TestFolder();
        using var first = new FileStream(folder.In(".lock"), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);

        var refused = Assert.Throws<StoreUnavailableException>(() => StoreTestParts.File(folder.Path));

        Assert.Contains("another process uses it", refused.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task DamagedFile_IsSetAsideAndTheStreamStartsAnew(bool torn)
    {
        using var folder = new TestFolder();
        await using (var store = StoreTestParts.File(folder.Path))
        {
            await store.WriteAsync(await store.ClaimAsync("s"), 1);
        }

        var path = Directory.GetFiles(folder.Path, "*.safetensors").Single();
        var bytes = await File.ReadAllBytesAsync(path, TestContext.Current.CancellationToken);
        bytes[^1] ^= 1;
        await File.WriteAllBytesAsync(path, torn ? bytes[..^40] : bytes, TestContext.Current.CancellationToken);

        await using var again = StoreTestParts.File(folder.Path);
        var opening = await again.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None);

        Assert.Contains("damaged", opening.Refused, StringComparison.Ordinal);
        Assert.Null(opening.Checkpoint);
        Assert.Single(Directory.GetFiles(folder.Path, "*.rejected"));
        Assert.Equal(WriteStatus.Saved, (await again.WriteAsync(opening.Claim!.Value, 1)).Status);
    }

    [Fact]
    public async Task LeftOverTemporaryFile_IsRemovedAndThePreviousStateStays()
    {
        using var folder = new TestFolder();
        await using (var store = StoreTestParts.File(folder.Path))
        {
            await store.WriteAsync(await store.ClaimAsync("s"), 1);
        }

        await File.WriteAllBytesAsync(folder.In("s~00000002.safetensors.tmp"), new byte[10], TestContext.Current.CancellationToken);
        await using var again = StoreTestParts.File(folder.Path);

        Assert.Equal(1, (await again.OpenAsync("s", "a", OpenPolicy.Replace, CancellationToken.None)).Checkpoint!.Description.Step);
        Assert.Empty(Directory.GetFiles(folder.Path, "*.tmp"));
    }

    [Fact]
    public async Task FolderGone_WriteFailsAndWorksAgainWhenItIsBack()
    {
        using var folder = new TestFolder();
        await using var store = StoreTestParts.File(folder.In("store"));
        var claim = await store.ClaimAsync("s");
        Directory.Move(folder.In("store"), folder.In("away"));

        var failed = await Assert.ThrowsAsync<StoreUnavailableException>(() => store.WriteAsync(claim, 1));
        Directory.Move(folder.In("away"), folder.In("store"));
        var saved = await store.WriteAsync(claim, 1);

        Assert.Contains("can't be used", failed.Message, StringComparison.Ordinal);
        Assert.Equal(WriteStatus.Saved, saved.Status);
    }

    [Fact]
    public async Task BytesLimit_IdleStreamsExpireTheLongestIdleFirst_OwnedOnesStay()
    {
        using var folder = new TestFolder();
        var clock = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        await using var store = StoreTestParts.File(folder.Path, options => (options.MaxBytes, options.KeepCheckpoints) = (10_000, 1), clock);
        foreach (var name in new[] { "idle longest", "idle", "owned" })
        {
            var claim = await store.ClaimAsync(name);
            await store.WriteAsync(claim, 1, floats: 600);
            if (name != "owned")
            {
                await store.CloseAsync(claim, null, CancellationToken.None);
            }

            clock.Advance(TimeSpan.FromMinutes(1));
        }

        var next = await store.ClaimAsync("next");
        await store.WriteAsync(next, 1, floats: 600);
        Assert.Equal(["idle", "next", "owned"], (await store.ListAsync(null, 10, CancellationToken.None)).Select(stream => stream.Latest.Stream));

        var full = await Assert.ThrowsAsync<StoreFullException>(() => store.WriteAsync(next, 2, floats: 3000));
        Assert.Contains("Store:MaxBytes", full.Message, StringComparison.Ordinal);
        Assert.Equal(Directory.GetFiles(folder.Path, "*.safetensors").Sum(file => new FileInfo(file).Length), store.Bytes);
    }

    [Fact]
    public async Task IdleStream_PastItsExpiry_IsForgotten()
    {
        using var folder = new TestFolder();
        var clock = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        await using var store = StoreTestParts.File(folder.Path, options => options.IdleExpiry = TimeSpan.FromDays(1), clock);
        await store.CloseAsync(await store.ClaimAsync("s"), StoreTestParts.Pending(1), CancellationToken.None);

        clock.Advance(TimeSpan.FromDays(1));

        Assert.Empty(await store.ListAsync(null, 10, CancellationToken.None));
        Assert.Empty(Directory.GetFiles(folder.Path, "*.safetensors"));
    }

    [Theory]
    [InlineData("../../etc/passwd")]
    [InlineData(".lock")]
    [InlineData("CON")]
    [InlineData("a~00000001.safetensors")]
    [InlineData("Ünïcode/with spaces\u0000and nul")]
    public async Task AnyKey_StaysInTheFolderAndIsFoundAgain(string key)
    {
        using var folder = new TestFolder();
        await using (var store = StoreTestParts.File(folder.In("store")))
        {
            await store.WriteAsync(await store.ClaimAsync(key), 1);
            await store.WriteAsync(await store.ClaimAsync(new string('x', 300)), 2);
        }

        await using var again = StoreTestParts.File(folder.In("store"));

        Assert.Equal(
            new[] { key, new string('x', 300) }.Order(StringComparer.Ordinal), (await again.ListAsync(null, 10, CancellationToken.None)).Select(stream => stream.Latest.Stream));
        Assert.Single(Directory.GetFileSystemEntries(folder.Path));
    }
}
