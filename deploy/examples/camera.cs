#:project ../../src/TtaService.Client/TtaService.Client.csproj
// Sends image files as the frames of one camera: dotnet run camera.cs -- FRAME...
// Outside of the repository the first line is "#:package TtaService.Client@*".
// TTA_GRPC says where the server is, 127.0.0.1:8001 unless it is set.
using TtaService.Client;
using TtaService.V1;

using var client = new TtaClient(new TtaClientOptions
{
    Address = new Uri($"http://{Environment.GetEnvironmentVariable("TTA_GRPC") ?? "127.0.0.1:8001"}"),
    Stream = new AdaptationStreamOptions { OnEvent = Console.Error.WriteLine },
});
await using var camera = await client.OpenAsync(new OpenStream { Stream = "camera-cs", Model = "fashion-mnist" });
await foreach (var step in camera.StepsAsync(FrameSource.Files(args)))
{
    Console.WriteLine(step.Reply is { } reply
        ? FormattableString.Invariant($"{step.Frames[0].Name}: {reply.Predictions[0].Top[0].Label} {reply.Predictions[0].Top[0].Probability:0.000}, step {reply.Step}")
        : $"{step.Frames[0].Name}: {step.Error!.Reason}: {step.Error.Message}");
}
