using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Grpc.Core;
using TtaService.Host.Tests.Infrastructure;
using TtaService.V1;

namespace TtaService.Host.Tests.Functional;

/// <summary>Snapshots that a client made up.</summary>
public sealed class SnapshotImportTests(ServerFixture server) : IClassFixture<ServerFixture>
{
    private const long MostCounted = 1L << 53;

    private static readonly string[] Counters = ["step", "frames", "observed_frames"];

    // What to write into the metadata for a key.
    public static TheoryData<string, string> BadMetadata
    {
        get
        {
            var data = new TheoryData<string, string>
            {
                { "hyperparameters", "{\"components\":16,\"components\":3}" },
                { "hyperparameters", "{\"components\":{\"a\":1,\"a\":2}}" },
                { "hyperparameters", "[1]" },
                { "hyperparameters", "5" },
                { "hyperparameters", new string('[', 10_000) },
                { "hyperparameters", "{\"components\":\"\\ud800\"}" },
                { "hyperparameters", "{\"temperature\":1e999}" },
                { "hyperparameters", "{\"components\":null}" },
                { "hyperparameters", $"{{{string.Join(',', Enumerable.Range(0, 5000).Select(i => $"\"a{i}\":1"))}}}" },
                { "method", "\u001b[2J\r\n" + new string('z', 1 << 18) },
                { "model", string.Concat(Enumerable.Repeat("\u001b[2J\r\n\u202e", 1 << 16)) },
                { "format", new string('ä', 1 << 18) },
                { "seed", "-1" },
                { "seed", "18446744073709551616" },
            };
            foreach (var counter in Counters)
            {
                foreach (var value in new[] { "9223372036854775807", "9223372036854775808", "-1", "9007199254740993", "1e3", "" })
                {
                    data.Add(counter, value);
                }
            }

            return data;
        }
    }

    [Theory]
    [MemberData(nameof(BadMetadata))]
    public async Task Import_BadMetadata_IsRefusedWithAShortText(string key, string value)
    {
        await server.Host.StepAsync("origin", TestFrames.Tensor(1));

        var snapshot = With(await server.Host.ExportAsync("origin"), header => header["__metadata__"]![key] = value);

        await RefusedAsync(snapshot);
    }

    [Fact]
    public async Task Import_BadHeader_IsRefusedWithAShortText()
    {
        await server.Host.StepAsync("origin", TestFrames.Tensor(1));
        var sound = await server.Host.ExportAsync("origin");
        foreach (var header in new[]
        {
            "[]",
            "{\"__metadata__\":5}",
            "{\"__metadata__\":{\"step\":5}}",
            "{\"__metadata__\":{\"format\":\"a\",\"format\":\"b\"}}",
            "{\"a\":5}",
            "{\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},\"a\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            $"{{\"a\":{{\"dtype\":\"U8\",\"shape\":[{string.Join(',', Enumerable.Repeat(1, 100_000))}],\"data_offsets\":[0,1]}}}}",
            $"{{{string.Join(',', Enumerable.Range(0, 70_000).Select(i => $"\"{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}"))}}}",
            $"{{\"__metadata__\":{{{string.Join(',', Enumerable.Range(0, 100_000).Select(i => $"\"{i}\":\"\""))}}}}}",
            $"{{\"{new string('z', 1 << 18)}\":{{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,0]}}}}",
            "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
            new string('[', 100_000),
        })
        {
            await RefusedAsync(Container(Encoding.UTF8.GetBytes(header), []));
            await RefusedAsync(Container(Encoding.UTF8.GetBytes(header), sound[(8 + (int)BitConverter.ToUInt64(sound))..]));
        }
    }

    [Fact]
    public async Task Import_LargestCounters_StepsCheckpointsAndComesBackAfterARestart()
    {
        using var folder = new TestFolder();
        string[] settings = ["--Store:Kind=file", $"--Store:Path={folder.Path}"];
        await using (var host = await TestHost.StartAsync(settings))
        {
            await host.StepAsync("origin", TestFrames.Tensor(1));
            var snapshot = With(await host.ExportAsync("origin"), header =>
                Array.ForEach(Counters, counter => header["__metadata__"]![counter] = MostCounted.ToString(CultureInfo.InvariantCulture)));
            await host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "old", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(snapshot) });
            for (var i = 0; i < 3; i++)
            {
                Assert.Equal(MostCounted, (await host.StepAsync("old", TestFrames.Tensor(i))).Step);
            }

            // What it exports is taken, too.
            await host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "again", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(await host.ExportAsync("old")) });
        }

        await using var later = await TestHost.StartAsync(settings);
        using var call = await DuplexClient.OpenAsync(later, "old");
        Assert.Equal((StateOrigin.Restored, MostCounted, MostCounted), (call.Opened.Origin, call.Opened.Age.Steps, call.Opened.Age.Frames));
        Assert.Empty(call.Opened.Warnings);
        Assert.Equal(MostCounted, (await call.StepAsync(1, TestFrames.Tensor(1))).Step.Step);
    }

    private async Task RefusedAsync(byte[] snapshot)
    {
        var refused = await Assert.ThrowsAsync<RpcException>(async () =>
            await server.Host.Streams.ImportStreamAsync(new ImportStreamRequest { Name = "made-up", Model = TestHost.Model, Snapshot = ByteString.CopyFrom(snapshot) }));

        RpcAssert.Refused(StatusCode.InvalidArgument, "SNAPSHOT_REFUSED", refused);
        Assert.InRange(Encoding.UTF8.GetByteCount(refused.Status.Detail), 1, 1024);
        Assert.DoesNotContain(refused.Status.Detail, character => char.IsControl(character) || character == '\u202e');
    }

    private static byte[] With(byte[] snapshot, Action<JsonNode> change)
    {
        var length = (int)BitConverter.ToUInt64(snapshot);
        var header = JsonNode.Parse(snapshot.AsSpan(8, length))!;
        change(header);
        return Container(Encoding.UTF8.GetBytes(header.ToJsonString()), snapshot[(8 + length)..]);
    }

    private static byte[] Container(byte[] header, byte[] data) => [.. BitConverter.GetBytes((ulong)header.Length), .. header, .. data];
}
