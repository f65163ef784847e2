using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using static TorchSharp.torch;

namespace TtaService.Engine.Execution;

/// <summary>The frames that fill a pass of a fixed batch up: they belong to no stream and are normalized with the source statistics.</summary>
internal sealed class FillerSteps(IReadOnlyList<NormalizationSite> sites, Device? device) : IDisposable
{
    private readonly MethodRuntime _source = new(MethodSettings.Create("source"), new MethodTarget(sites), modelKey: 0);

    /// <summary>Frames at the end of a pass on the host.</summary>
    public unsafe StepInPass InPass(int firstFrame, int frames) => new(_source, firstFrame, frames, 0, null, null);

    /// <summary>Frames at the end of a pass on a device.</summary>
    public StepGroup InGroup(int firstFrame, int frames)
    {
        var nothing = zeros([1, 0], device: device);
        return new StepGroup { Runtime = _source, FirstFrame = firstFrame, Steps = 1, Frames = frames, State = nothing, Next = nothing, Figures = nothing, Observation = null };
    }

    public void Dispose() => _source.Dispose();
}
