using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Models;

/// <summary>Loads the models before the listeners open; a model that can't be served ends the start with its reasons.</summary>
internal sealed partial class ModelLoading(
    ModelCatalog catalog,
    DecodeTurns decoding,
    IOptions<ModelsOptions> models,
    IOptions<BatchingOptions> batching,
    IOptions<StreamsOptions> streams,
    IOptions<FrameOptions> frames,
    IOptions<DriftOptions> drift,
    TtaMetrics metrics,
    TtaActivities activities,
    LoopWatch loops,
    TimeProvider clock,
    ILogger<ModelLoading> logger) : IHostedService
{
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var repository = Path.GetFullPath(models.Value.Path);
        var devices = models.Value.Device.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        foreach (var folder in ModelRepository.Load(repository))
        {
            foreach (var device in devices)
            {
                await LoadAsync(folder, device, devices.Length).ConfigureAwait(false);
            }
        }
    }

    private async Task LoadAsync(ModelFolder folder, string device, int devices)
    {
        var began = Stopwatch.GetTimestamp();
        var options = new AdaptiveModelOptions
        {
            Device = device,
            Precision = models.Value.Precision,
            Threads = models.Value.Threads,
            InputNormalization = folder.InputNormalization,
            CalibrationPath = folder.CalibrationPath,
            // Engines on the CPU share its memory; a GPU has its own.
            ArenaBytes = models.Value.ArenaBytes > 0 ? models.Value.ArenaBytes : device == "cpu" ? AdaptiveModelOptions.DefaultArenaBytes / devices : null,
            Observation = drift.Value.Observation,
            FrameSize = folder.FrameSize,
            OwnsProcess = true,
        };
        var engine = await InferenceEngine.StartAsync(folder.OnnxPath, options).ConfigureAwait(false);
        var preprocessing = folder.Preprocessing(engine.Model.InputShape);
        var residency = new StreamResidency(folder.Name, metrics, clock, logger);
        var batcher = new StepBatcher(engine, residency, batching.Value, streams.Value, decoding, new PictureGuard(frames.Value), new AnswerWriter(folder.Labels), metrics, activities, loops.Add(LoopKind.Batcher, $"the batcher of {folder.Name} on {device}", batching.Value.StuckAfter, isVital: true), clock, logger);
        var watched = ModelDrift.Open(folder, engine.Model, drift.Value);
        var served = new ServedModel(folder, device, preprocessing, new FramePipeline(preprocessing, frames.Value), engine, residency, batcher, folder.DefaultMethod(engine.Model), watched, new ShadowQueue(folder.Name, engine, metrics, loops.Add(LoopKind.Shadow, $"the frames of {folder.Name} that run through source", batching.Value.StuckAfter)));
        await WarmUp.RunAsync(served).ConfigureAwait(false);
        catalog.Add(served);
        var took = Stopwatch.GetElapsedTime(began);
        Log.ModelLoaded(logger, folder.Name, device, engine.Model.Digest, engine.Model.Sites.Count, took, watched.Calibration);
        foreach (var notice in engine.Model.Notices)
        {
            Log.ModelNotice(logger, folder.Name, device, notice);
        }
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private static partial class Log
    {
        [LoggerMessage(EventId = 30, Level = LogLevel.Information, Message = "ModelLoaded {Model} on {Device} {Digest}: {Sites} normalization sites, loaded in {Took}; drift: {Drift}")]
        public static partial void ModelLoaded(ILogger logger, string model, string device, string digest, int sites, TimeSpan took, string drift);

        [LoggerMessage(EventId = 37, Level = LogLevel.Warning, Message = "ModelNotice {Model} on {Device}: {Notice}")]
        public static partial void ModelNotice(ILogger logger, string model, string device, string notice);
    }
}
