using Microsoft.Extensions.Time.Testing;
using TtaService.Engine.Streams;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>What a full store drops, who hears of it, and that it counts what it holds.</summary>
public sealed class StoreRoomTests
{
    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public async Task Full_NobodyFloods_TheLongestIdleIsDroppedAndHearsOfIt(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.MaxStreams = 3);
        foreach (var name in new[] { "a", "b", "c" })
        {
            any.Clock.Advance(TimeSpan.FromSeconds(1));
            await KeepAsync(any.Store, name, "");
        }

        any.Clock.Advance(TimeSpan.FromSeconds(1));
        await KeepAsync(any.Store, "d", "");

        Assert.Equal(["b", "c", "d"], await NamesAsync(any.Store));
        var opening = await any.Store.OpenAsync("a", "x", OpenPolicy.Replace, CancellationToken.None);
        Assert.Null(opening.Checkpoint);
        Assert.Contains("Store:MaxStreams is 3", opening.Dropped, StringComparison.Ordinal);
        // Told until something is stored of it again.
        Assert.NotNull((await any.Store.OpenAsync("a", "x", OpenPolicy.Replace, CancellationToken.None)).Dropped);
        var claim = await any.Store.ClaimAsync("a", "x");
        await any.Store.WriteAsync(claim, 1);
        await any.Store.CloseAsync(claim, null, CancellationToken.None);
        Assert.Null((await any.Store.OpenAsync("a", "x", OpenPolicy.Replace, CancellationToken.None)).Dropped);
    }

    [Theory]
    [InlineData("memory")]
    [InlineData("file")]
    public async Task Full_OneClientFloods_ItsNewestAreDropped(string kind)
    {
        await using var any = await StoreTestParts.Any.StartAsync(kind, options => options.MaxStreams = 20);
        foreach (var camera in new[] { "camera-1", "camera-2" })
        {
            await KeepAsync(any.Store, camera, "10.0.0.1");
        }

        for (var i = 0; i < 100; i++)
        {
            await KeepAsync(any.Store, $"flood-{i:D3}", "10.0.0.9");
        }

        var names = await NamesAsync(any.Store);
        Assert.Equal(20, names.Count);
        Assert.Contains("camera-1", names);
        Assert.Contains("camera-2", names);
        Assert.Contains("flood-000", names);
    }

    [Fact]
    public async Task Dropped_FileStoreOpenedAnew_StillSaysSo()
    {
        using var folder = new TestFolder();
        var name = "a camera with a name that is too long for a file: " + new string('ü', 70);
        await using (var store = StoreTestParts.File(folder.Path, options => options.MaxStreams = 1))
        {
            await KeepAsync(store, name, "");
            await KeepAsync(store, "b", "");
        }

        await using var again = StoreTestParts.File(folder.Path, options => options.MaxStreams = 1);
        Assert.NotNull((await again.OpenAsync(name, "x", OpenPolicy.Replace, CancellationToken.None)).Dropped);
        Assert.Equal(["b"], await NamesAsync(again));
    }

    [Fact]
    public async Task Dropped_NextOpening_WarnsTheClient()
    {
        using var folder = new TestFolder();
        await using var host = await TestHost.StartAsync("--Store:Kind=file", $"--Store:Path={folder.Path}", "--Streams:MaxStreams=2", "--Store:MaxStreams=3");
        await host.StepAsync("victim", TestFrames.Tensor(1));
        for (var i = 0; i < 8; i++)
        {
            await host.StepAsync($"other-{i}", TestFrames.Tensor(1));
        }

        // Whoever was dropped, of the streams that were, hears of it.
        var warned = 0;
        foreach (var name in Enumerable.Range(0, 8).Select(i => $"other-{i}").Prepend("victim"))
        {
            using var call = await DuplexClient.OpenAsync(host, name);
            Assert.Equal(call.Opened.Origin == V1.StateOrigin.Fresh, call.Opened.Warnings.Any(warning => warning.Contains("dropped to make room", StringComparison.Ordinal)));
            warned += call.Opened.Warnings.Count;
            await call.StepAsync(0, TestFrames.Tensor(2));
        }

        Assert.True(warned > 0, "nothing was dropped");
    }

    [Fact]
    public async Task Write_CleaningUpFails_TheBytesAreCounted()
    {
        var options = new StoreOptions { KeepCheckpoints = 1 };
        var files = new FailingCleanup();
        await using var store = Over(files, options);
        var claim = await store.ClaimAsync("s");
        await store.WriteAsync(claim, 1);
        var one = store.Bytes;
        files.Fails = true;
        Assert.Equal(WriteStatus.Saved, (await store.WriteAsync(claim, 2)).Status);
        Assert.Equal(2 * one, store.Bytes);
        files.Fails = false;
        await store.WriteAsync(claim, 3);
        Assert.Equal(one, store.Bytes);
        Assert.Equal([3], (await store.CheckpointsAsync("s", CancellationToken.None)).Select(kept => kept.Step));
    }

    [Fact]
    public async Task Write_Throws_NothingIsCounted()
    {
        var files = new FailingCleanup();
        await using var store = Over(files, new StoreOptions { KeepCheckpoints = 2 });
        var claim = await store.ClaimAsync("s");
        await store.WriteAsync(claim, 1);
        var one = store.Bytes;
        files.FailsToWrite = true;
        await Assert.ThrowsAsync<StoreUnavailableException>(() => store.WriteAsync(claim, 2));
        Assert.Equal(one, store.Bytes);
    }

    [Theory]
    [InlineData(17 << 20)]
    [InlineData((8 << 20) + 1)]
    public void Seal_RecordTooLongToBeReadBack_LeavesItOut(int characters)
    {
        var seal = StoreTestParts.Seal();
        var file = seal.Seal(new StreamClaim("camera", 1, "a"), new PendingCheckpoint(StoreTestParts.Snapshot(7), 1, 1, new string('x', characters)));
        var read = seal.Unseal("camera", 1, file);
        Assert.Equal(("camera", 7, ""), (read.Description.Stream, read.Description.Step, read.Record));
    }

    [Fact]
    public void Record_DenseOutputsKept_IsWrittenWithTheNewestAnswersOnly()
    {
        var random = new Random(1);
        var answers = Enumerable.Range(1, 16).Select(i => new KeptAnswer((ulong)i, Answer([.. Enumerable.Range(0, 200_000).Select(_ => random.NextSingle())]), 7)).ToList();
        var record = new StreamRecord(new StreamSettings { Pinned = true }, default, default, answers);

        var text = record.Write();
        var read = StreamRecord.Read(text)!;

        Assert.True(text.Length <= CheckpointSeal.MaxRecordCharacters, $"{text.Length} characters");
        Assert.True(read.Settings.Pinned);
        Assert.InRange(read.Answers.Count, 1, 3);
        Assert.Equal((16ul, 7ul), (read.Answers[^1].Sequence, read.Answers[^1].Digest));
        Assert.Equal(answers[^1].Answer.Outputs[0].Values, read.Answers[^1].Answer.Outputs[0].Values);
    }

    [Fact]
    public void Record_OfAVersionWithoutDigests_IsRead()
    {
        var old = new StreamRecord(new StreamSettings(), default, default, [new KeptAnswer(3, Answer([1]), 9)]);
        var json = System.Text.Json.JsonSerializer.Serialize(old).Replace(",\"Digest\":9", "", StringComparison.Ordinal);
        Assert.DoesNotContain("Digest", json, StringComparison.Ordinal);
        using var compressed = new MemoryStream();
        using (var brotli = new System.IO.Compression.BrotliStream(compressed, System.IO.Compression.CompressionLevel.Fastest, leaveOpen: true))
        {
            brotli.Write(System.Text.Encoding.UTF8.GetBytes(json));
        }

        Assert.Equal((3ul, 0ul), (StreamRecord.Read(Convert.ToBase64String(compressed.ToArray()))!.Answers[0].Sequence,
            StreamRecord.Read(Convert.ToBase64String(compressed.ToArray()))!.Answers[0].Digest));
    }

    [Fact]
    public void KeptReplies_OfAllStreams_StayWithinTheirBudget()
    {
        var one = Answer(new float[1000]).Bytes;
        var budget = new ReplyBudget(10 * one);
        var streams = Enumerable.Range(0, 8).Select(_ => new AnsweredSteps(16, long.MaxValue, budget)).ToList();
        for (var step = 1ul; step <= 20; step++)
        {
            foreach (var stream in streams)
            {
                stream.Record(step, 1, Answer(new float[1000]));
                Assert.True(budget.Taken <= 10 * one, "over the budget");
                Assert.Equal(step, stream.Last);
            }
        }

        Assert.Contains(streams, stream => stream.Recall(20, 1)?.Answer is { Replayed: true });
        streams.ForEach(stream => stream.Release());
        Assert.Equal(0, budget.Taken);
    }

    private static StepAnswer Answer(float[] values) => new()
    {
        Steps = 1,
        Frames = 1,
        Age = default,
        Method = "ema",
        Predictions = [],
        Outputs = [new Engine.Execution.OutputTensor("y", [1, values.Length], values)],
        Times = default,
        Joined = 1,
    };

    private static async Task KeepAsync(IStreamStateStore store, string name, string client)
    {
        var claim = await store.ClaimAsync(name);
        await store.CloseAsync(claim, StoreTestParts.Pending(1) with { Client = client }, CancellationToken.None);
    }

    private static async Task<IReadOnlyList<string>> NamesAsync(IStreamStateStore store) =>
        [.. (await store.ListAsync(null, 1000, CancellationToken.None)).Select(stream => stream.Latest.Stream)];

    private static LocalStreamStateStore Over(ICheckpointBlobs files, StoreOptions options) =>
        LocalStreamStateStore.Over(files, options, StoreTestParts.Seal(), new FakeTimeProvider(TimeProvider.System.GetUtcNow()));

    /// <summary>Keeps files in memory; removing or writing them fails when it is told to.</summary>
    private sealed class FailingCleanup : ICheckpointBlobs
    {
        private readonly Dictionary<(string, long), byte[]> _files = [];

        public bool Fails { get; set; }

        public bool FailsToWrite { get; set; }

        public bool OutlivesProcess => false;

        public void Put(string stream, long number, byte[] file)
        {
            if (FailsToWrite)
            {
                throw new IOException("the disk");
            }

            _files[(stream, number)] = file;
        }

        public byte[] Get(string stream, long number) => _files[(stream, number)];

        public CheckpointDescription? Describe(string stream, long number) => CheckpointSeal.Describe(Safetensors.Read(_files[(stream, number)]).Metadata, number, 0);

        public void Remove(string stream, long number)
        {
            if (Fails)
            {
                throw new IOException("the disk");
            }

            _files.Remove((stream, number));
        }

        public void SetAside(string stream, long number) => Remove(stream, number);

        public void RemoveSetAside(string stream, long number) => Remove(stream, number);

        public void MarkDropped(string stream, long number)
        {
        }

        public void UnmarkDropped(string stream, long number)
        {
        }

        public IEnumerable<FoundBlob> Find() => [];

        public void Dispose()
        {
        }
    }
}
