using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Models;

/// <summary>Loads the models before the listeners open; a model that can't be served ends the start with its reasons.</summary>
internal sealed partial class ModelLoading(
    ModelCatalog catalog,
    DecodeSlots decoding,
    IOptions<ModelsOptions> models,
    IOptions<BatchingOptions> batching,
    IOptions<StreamsOptions> streams,
    IOptions<FrameOptions> frames,
    IOptions<DriftOptions> drift,
    TtaMetrics metrics,
    TtaActivities activities,
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
        };
        var engine = await InferenceEngine.StartAsync(folder.OnnxPath, options).ConfigureAwait(false);
        var preprocessing = folder.Preprocessing(engine.Model.InputShape);
        var residency = new StreamResidency(folder.Name, metrics, clock, logger);
        var batcher = new StepBatcher(engine, residency, batching.Value, streams.Value, decoding, new AnswerWriter(folder.Labels), metrics, activities, clock, logger);
        var watched = ModelDrift.Open(folder, engine.Model, drift.Value);
        var served = new ServedModel(folder, device, preprocessing, new FramePipeline(preprocessing, frames.Value), engine, residency, batcher, folder.DefaultMethod(engine.Model), watched, new ShadowQueue(folder.Name, engine, metrics));
        await WarmUp.RunAsync(served).ConfigureAwait(false);
        catalog.Add(served);
        var took = Stopwatch.GetElapsedTime(began);
        Log.ModelLoaded(logger, folder.Name, device, engine.Model.Digest, engine.Model.Sites.Count, took, watched.Calibration);
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private static partial class Log
    {
        [LoggerMessage(EventId = 30, Level = LogLevel.Information, Message = "ModelLoaded {Model} on {Device} {Digest}: {Sites} normalization sites, loaded in {Took}; drift: {Drift}")]
        public static partial void ModelLoaded(ILogger logger, string model, string device, string digest, int sites, TimeSpan took, string drift);
    }
}
