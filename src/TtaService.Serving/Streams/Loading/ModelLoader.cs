using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Keeping;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Loads a model of the repository onto the devices, warms it up, and puts together what stands before its engines.</summary>
internal sealed partial class ModelLoader(
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
    ILogger<ModelLoader> logger)
{
    /// <summary>Loads a model onto every device.</summary>
    /// <exception cref="ModelRefusedException">It can't be served; nothing of it is left.</exception>
    public async Task<IReadOnlyList<ServedModel>> LoadAsync(ModelFolder folder)
    {
        var devices = models.Value.Device.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
        var loaded = new List<ServedModel>();
        try
        {
            foreach (var device in devices)
            {
                loaded.Add(await LoadAsync(folder, device, devices.Length).ConfigureAwait(false));
            }

            return loaded;
        }
        catch (Exception failure) when (failure is not OperationCanceledException)
        {
            // A graph may fail in any way; the other models have nothing to do with it.
            Log.LoadFailed(logger, failure, folder.Name);
            foreach (var served in loaded)
            {
                await EndAsync(served).ConfigureAwait(false);
            }

            throw new ModelRefusedException(BrokenModel.From(folder.Name, failure), failure);
        }
    }

    /// <summary>Gives a model back with all that was put before it. Its streams have left.</summary>
    public async Task EndAsync(ServedModel served)
    {
        await served.DisposeAsync().ConfigureAwait(false);
        foreach (var beat in served.Beats)
        {
            loops.Remove(beat);
        }
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
            ArenaBytes = Share(models.Value.ArenaBytes),
            GradientBytes = Share(models.Value.GradientBytes),
            Observation = drift.Value.Observation,
            Learning = learning.Value.Learning,
            Methods = methods,
            OwnsProcess = true,
        };
        long? Share(long given) => given > 0 ? given : device == "cpu" ? AdaptiveModelOptions.DefaultArenaBytes / devices : null;
        var engine = await InferenceEngine.StartAsync(folder.OnnxPath, options).ConfigureAwait(false);
        ServedModel? served = null;
        try
        {
            var preprocessing = folder.Preprocessing(engine.Model);
            var pipeline = new FramePipeline(preprocessing, frames.Value);
            var first = WarmUp.Frames(pipeline, engine.Model.ClipFrames);
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
            // A model that was put together takes its engine with it, and its loops are watched no more.
            await (served is null ? engine.DisposeAsync().AsTask() : EndAsync(served)).ConfigureAwait(false);
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
        var beat = loops.Add(LoopKind.Batcher, $"the batcher of {folder.Name} on {device}", batching.Value.StuckAfter, isVital: true);
        var shadow = loops.Add(LoopKind.Shadow, $"the frames of {folder.Name} that run through source", batching.Value.StuckAfter);
        return new ServedModel(
            folder,
            device,
            preprocessing,
            pipeline,
            engine,
            residency,
            Batcher(folder, engine, residency, beat),
            folder.DefaultMethod(engine.Model),
            ModelDrift.Open(folder, engine.Model, drift.Value),
            new ShadowQueue(folder.Name, engine, metrics, shadow),
            commissioning,
            [beat, shadow]);
    }

    private StepBatcher Batcher(ModelFolder folder, InferenceEngine engine, StreamResidency residency, LoopBeat beat)
    {
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

    private static partial class Log
    {
        [LoggerMessage(
            EventId = 30,
            Level = LogLevel.Information,
            Message = "ModelLoaded {Model} on {Device} {Digest}: {Sites} normalization sites, loaded in {Took}; drift: {Drift}")]
        public static partial void ModelLoaded(ILogger logger, string model, string device, string digest, int sites, TimeSpan took, string drift);

        [LoggerMessage(EventId = 32, Level = LogLevel.Debug, Message = "LoadFailed {Model}")]
        public static partial void LoadFailed(ILogger logger, Exception failure, string model);

        [LoggerMessage(EventId = 37, Level = LogLevel.Warning, Message = "ModelNotice {Model} on {Device}: {Notice}")]
        public static partial void ModelNotice(ILogger logger, string model, string device, string notice);
    }
}
