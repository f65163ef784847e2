using TtaService.V1;
namespace TtaService.Host.Commands.Demo;
internal sealed record LabelledFrame(Frame Frame, int Label);
internal sealed class CameraFeed { public string Domain => ""; public IReadOnlyList<LabelledFrame> Next(int n) => []; }
