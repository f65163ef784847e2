using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>A model that is loaded on a device: its folder, its engine, and what stands before the engine.</summary>
internal sealed class ServedModel(
    ModelFolder folder,
    string device,
    Preprocessing preprocessing,
    FramePipeline frames,
    InferenceEngine engine,
    StreamResidency residency,
    StepBatcher batcher,
    MethodSettings defaultMethod,
    ModelDrift drift,
    ShadowQueue shadow,
    Commissioning commissioning,
    IReadOnlyList<LoopBeat> beats) : IAsyncDisposable
{
    public string Name => Folder.Name;

    public ModelFolder Folder { get; } = folder;

    /// <summary>Class names by index; empty when there are none.</summary>
    public IReadOnlyList<string> Labels { get; } = folder.LabelsOf(engine.Model);

    /// <summary><c>cpu</c> or <c>cuda:N</c>.</summary>
    public string Device { get; } = device;

    public InferenceEngine Engine { get; } = engine;

    public StreamResidency Residency { get; } = residency;

    public StepBatcher Batcher { get; } = batcher;

    public Preprocessing Preprocessing { get; } = preprocessing;

    public FramePipeline Frames { get; } = frames;

    /// <summary>For streams that name no method.</summary>
    public MethodSettings DefaultMethod { get; } = defaultMethod;

    /// <summary>How drift is read on it.</summary>
    public ModelDrift Drift { get; } = drift;

    /// <summary>Sampled frames on their way through source.</summary>
    public ShadowQueue Shadow { get; } = shadow;

    /// <summary>Measures its calibration on the frames of a stream.</summary>
    public Commissioning Commissioning { get; } = commissioning;

    /// <summary>The signs of life of its loops.</summary>
    public IReadOnlyList<LoopBeat> Beats { get; } = beats;

    public async ValueTask DisposeAsync()
    {
        await Batcher.DisposeAsync().ConfigureAwait(false);
        await Engine.DisposeAsync().ConfigureAwait(false);
    }
}
