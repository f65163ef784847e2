using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Loads the models before the listeners open. A model that can't be served is named with its reason; when none is left, that ends the start.</summary>
internal sealed partial class ModelLoading(
    ModelCatalog catalog,
    DecodeTurns decoding,
    ColdStates cold,
    IOptions<ModelsOptions> models,
    MethodRegistry methods,
    IOptions<BatchingOptions> batching,
    IOptions<StreamsOptions> streams,
    IOptions<FrameOptions> frames,
    IOptions<DriftOptions> drift,
    IOptions<StreamLearningOptions> learning,
    TtaMetrics metrics,
    TtaActivities activities,
    LoopWatch loops,
    TimeProvider clock,
    ILogger<ModelLoading> logger) : IHostedService
{
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var content = ModelRepository.Load(Path.GetFullPath(models.Value.Path));
        foreach (var broken in content.Broken)
        {
            Refuse(broken);
        }

        var devices = models.Value.Device.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        foreach (var folder in content.Models)
        {
            await LoadAsync(folder, devices).ConfigureAwait(false);
        }

        if (catalog.Broken.Count > 0 && (models.Value.FailOnBroken || catalog.All.Count == 0))
        {
            var reasons = string.Join("; ", catalog.Broken.Select(broken => $"{broken.Name}: {broken.Reason}"));
            throw new ModelLoadException(catalog.All.Count == 0 ? $"no model can be served: {reasons}" : $"{reasons} (Models:FailOnBroken is true)");
        }
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private async Task LoadAsync(ModelFolder folder, string[] devices)
    {
        var loaded = new List<ServedModel>();
        try
        {
            foreach (var device in devices)
            {
                loaded.Add(await LoadAsync(folder, device, devices.Length).ConfigureAwait(false));
            }
        }
        catch (Exception failure) when (failure is not OperationCanceledException)
        {
            // A graph may fail in any way; the other models have nothing to do with it.
            Log.LoadFailed(logger, failure, folder.Name);
            Refuse(BrokenModel.From(folder.Name, failure));
            foreach (var served in loaded)
            {
                await served.DisposeAsync().ConfigureAwait(false);
            }

            return;
        }

        loaded.ForEach(catalog.Add);
    }

    private async Task<ServedModel> LoadAsync(ModelFolder folder, string device, int devices)
    {
        var began = Stopwatch.GetTimestamp();
        var options = folder.LoadOptions with
        {
            Device = device,
            Precision = models.Value.Precision,
            Threads = models.Value.Threads,
            // Engines on the CPU share its memory; a GPU has its own.
            ArenaBytes = models.Value.ArenaBytes > 0 ? models.Value.ArenaBytes : device == "cpu" ? AdaptiveModelOptions.DefaultArenaBytes / devices : null,
            Observation = drift.Value.Observation,
            Learning = learning.Value.Learning,
            Methods = methods,
            OwnsProcess = true,
        };
        var engine = await InferenceEngine.StartAsync(folder.OnnxPath, options).ConfigureAwait(false);
        ServedModel? served = null;
        try
        {
            var preprocessing = folder.Preprocessing(engine.Model);
            var pipeline = new FramePipeline(preprocessing, frames.Value);
            var first = WarmUp.Frames(pipeline);
            await engine.InvokeAsync(model =>
            {
                model.Settle(first);
                return true;
            }).ConfigureAwait(false);
            served = Assemble(folder, device, engine, preprocessing, pipeline, new Commissioning(folder, pipeline, options, clock));
            await WarmUp.RunAsync(served).ConfigureAwait(false);
            var took = Stopwatch.GetElapsedTime(began);
            Log.ModelLoaded(logger, folder.Name, device, engine.Model.Digest, engine.Model.Sites.Count, took, served.Drift.Calibration);
            foreach (var notice in engine.Model.Notices)
            {
                Log.ModelNotice(logger, folder.Name, device, notice);
            }

            return served;
        }
        catch
        {
            // A model that was put together takes its engine with it.
            IAsyncDisposable begun = served is null ? engine : served;
            await begun.DisposeAsync().ConfigureAwait(false);
            throw;
        }
    }

    private ServedModel Assemble(
        ModelFolder folder,
        string device,
        InferenceEngine engine,
        Preprocessing preprocessing,
        FramePipeline pipeline,
        Commissioning commissioning)
    {
        var residency = new StreamResidency(folder.Name, metrics, clock, logger);
        var shadow = loops.Add(LoopKind.Shadow, $"the frames of {folder.Name} that run through source", batching.Value.StuckAfter);
        return new ServedModel(
            folder,
            device,
            preprocessing,
            pipeline,
            engine,
            residency,
            Batcher(folder, device, engine, residency),
            folder.DefaultMethod(engine.Model),
            ModelDrift.Open(folder, engine.Model, drift.Value),
            new ShadowQueue(folder.Name, engine, metrics, shadow),
            commissioning);
    }

    private StepBatcher Batcher(ModelFolder folder, string device, InferenceEngine engine, StreamResidency residency)
    {
        var beat = loops.Add(LoopKind.Batcher, $"the batcher of {folder.Name} on {device}", batching.Value.StuckAfter, isVital: true);
        var labels = folder.LabelsOf(engine.Model);
        var (defects, guard) = (new StepDefects(logger), new PictureGuard(frames.Value));
        return new StepBatcher(
            engine,
            new PassRunner(engine, residency, defects, clock),
            new StepAdmission(batching.Value, streams.Value),
            new StepPreparation(decoding, cold, guard, defects),
            new BatchAnswers(new AnswerWriter(labels, engine.Model.Scores), new AnswerReader(engine.Model.Answer, labels), defects, metrics, clock),
            new StepReports(metrics, activities, beat, clock, logger),
            guard,
            defects,
            batching.Value,
            beat,
            clock);
    }

    private void Refuse(BrokenModel broken)
    {
        catalog.Add(broken);
        Log.ModelBroken(logger, broken.Name, broken.Reason);
    }

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 30,
            Level = LogLevel.Information,
            Message = "ModelLoaded {Model} on {Device} {Digest}: {Sites} normalization sites, loaded in {Took}; drift: {Drift}")]
        public static partial void ModelLoaded(ILogger logger, string model, string device, string digest, int sites, TimeSpan took, string drift);

        [LoggerMessage(EventId = 31, Level = LogLevel.Warning, Message = "ModelBroken {Model} is not served: {Reason}")]
        public static partial void ModelBroken(ILogger logger, string model, string reason);

        [LoggerMessage(EventId = 32, Level = LogLevel.Debug, Message = "LoadFailed {Model}")]
        public static partial void LoadFailed(ILogger logger, Exception failure, string model);

        [LoggerMessage(EventId = 37, Level = LogLevel.Warning, Message = "ModelNotice {Model} on {Device}: {Notice}")]
        public static partial void ModelNotice(ILogger logger, string model, string device, string notice);
    }
}
