using System.Diagnostics;
using System.Globalization;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Store;
using TtaService.V1;

namespace TtaService.Host.Tests.Store;

/// <summary>A killed process loses at most the checkpoint interval of adaptation, and never a stream.</summary>
public sealed class CrashTests
{
    private const int Cameras = 16;
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1);

    // Twice as many rounds as asked for take about twice the time; the default keeps the suite short.
    private static int Rounds => Setting("TTA_CRASH_ROUNDS", 3);

    private static int Instants => Setting("TTA_CRASH_INSTANTS", 10);

    [Fact]
    public async Task Killed_UnderLoad_EveryStreamComesBackNoOlderThanTheInterval()
    {
        using var folder = new TestFolder();
        await using var server = await ServerProcess.StartAsync("Store:Kind=file", $"Store:Path={folder.Path}", $"Store:CheckpointInterval={Interval}");
        var cameras = Enumerable.Range(0, Cameras).Select(i => new Camera($"camera-{i}", server.GrpcPort, TimeSpan.FromMilliseconds(20))).ToList();
        var random = new Random(1);
        var (oldest, lost, damaged, files) = (TimeSpan.Zero, 0, 0, 0);
        try
        {
            for (var round = 0; round < Rounds; round++)
            {
                await Task.WhenAll(cameras.Select(camera => camera.UntilAnsweredAsync(10)));
                await Task.Delay(random.Next(2 * (int)Interval.TotalMilliseconds), TestContext.Current.CancellationToken);
                var killed = Stopwatch.GetTimestamp();
                await server.Process.KillAsync();
                // What was on its way arrives.
                await Task.Delay(100, TestContext.Current.CancellationToken);
                var before = cameras.ConvertAll(camera => camera.Answers.ToArray());
                damaged += Damaged(folder.Path, ref files);
                await server.RestartAsync();
                await Task.WhenAll(cameras.Select(camera => camera.UntilAnsweredAsync(5)));
                for (var i = 0; i < cameras.Count; i++)
                {
                    var after = cameras[i].Answers.ElementAt(before[i].Length).Reply;
                    lost += after.Origin == StateOrigin.Restored ? 0 : 1;
                    // The state that came back had this many steps; the next one was answered when it was this old.
                    var next = before[i].LastOrDefault(answer => answer.Reply.Step == after.Step);
                    oldest = next.Reply is null || Stopwatch.GetElapsedTime(next.At, killed) < oldest ? oldest : Stopwatch.GetElapsedTime(next.At, killed);
                }
            }

            TestContext.Current.TestOutputHelper!.WriteLine($"figure: {Rounds} kills of {Cameras} streams: {lost} streams lost, "
                + $"oldest state {oldest.TotalMilliseconds:0} ms with an interval of {Interval.TotalMilliseconds:0} ms, {damaged} of {files} files damaged");
            Assert.Equal((0, 0), (lost, damaged));
            // On a machine that is busy with other things the writer gets its turn late.
            Assert.InRange(oldest, TimeSpan.Zero, 2 * Interval);
            Assert.All(cameras, camera => Assert.Empty(camera.Failures));
        }
        finally
        {
            await Task.WhenAll(cameras.Select(camera => camera.DisposeAsync().AsTask()));
        }
    }

    [Fact]
    public async Task Killed_WhileWriting_LeavesThePreviousOrTheNextFile()
    {
        using var folder = new TestFolder();
        // A checkpoint every few milliseconds, so that most kills hit one.
        await using var server = await ServerProcess.StartAsync("Store:Kind=file", $"Store:Path={folder.Path}", "Store:CheckpointInterval=00:00:00.1", "Store:KeepCheckpoints=2");
        var random = new Random(2);
        var (damaged, files, started) = (0, 0, 0);
        for (var instant = 0; instant < Instants; instant++)
        {
            await using (var camera = new Camera("camera", server.GrpcPort, TimeSpan.Zero))
            {
                await camera.UntilAnsweredAsync(5);
                await Task.Delay(random.Next(150), TestContext.Current.CancellationToken);
                await server.Process.KillAsync();
            }

            started += Directory.GetFiles(folder.Path, "*.tmp").Length;
            damaged += Damaged(folder.Path, ref files);
            await server.RestartAsync();
        }

        TestContext.Current.TestOutputHelper!.WriteLine(
            $"figure: {Instants} kills while writing: {damaged} of {files} files damaged, {started} unfinished writes left beside them");
        Assert.Equal(0, damaged);
        Assert.Empty(Directory.GetFiles(folder.Path, "*.rejected"));
    }

    private static int Damaged(string folder, ref int files)
    {
        var seal = StoreTestParts.Seal();
        var damaged = 0;
        foreach (var path in Directory.GetFiles(folder, "*.safetensors"))
        {
            files++;
            try
            {
                seal.Verify(File.ReadAllBytes(path), 1);
            }
            catch (CheckpointRefusedException)
            {
                damaged++;
            }
        }

        return damaged;
    }

    private static int Setting(string name, int otherwise) =>
        int.TryParse(Environment.GetEnvironmentVariable(name), CultureInfo.InvariantCulture, out var value) ? value : otherwise;
}
