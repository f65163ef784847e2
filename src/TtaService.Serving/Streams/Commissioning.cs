using System.Threading.Channels;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Onnx;
using TtaService.Serving.Frames;
using TtaService.Serving.Models;
using TtaService.Serving.Streams.Loading;

namespace TtaService.Serving.Streams;

/// <summary>How far a commissioning is.</summary>
/// <param name="Model">What is measured.</param>
/// <param name="Frames">Taken so far.</param>
/// <param name="Sites">That are measured.</param>
/// <param name="StandardError">The largest over the sites; infinite before it is known.</param>
internal sealed record CommissioningProgress(string Model, long Frames, int Sites, double StandardError);

/// <summary>Measures a model's calibration on the frames of one of its streams while they are served, one stream at a time. Thread-safe.</summary>
/// <param name="folder">The model's, where the calibration is written.</param>
/// <param name="frames">How its frames are made.</param>
/// <param name="options">How the model is loaded a second time, to be measured at every site that it can have.</param>
/// <param name="clock">Dates the calibration.</param>
internal sealed class Commissioning(ModelFolder folder, FramePipeline frames, AdaptiveModelOptions options, TimeProvider clock)
{
    // What waits while a pass runs; more is not taken, so that a fast camera costs no more memory than a slow one.
    private const int MaxWaiting = 32;
    private static readonly TimeSpan UpdateInterval = TimeSpan.FromSeconds(1);

    private Collection? _running;

    /// <summary>Shows it a stream's answered frames; they are copied as far as they are wanted.</summary>
    public void Offer(BatchEntry entry)
    {
        if (Volatile.Read(ref _running) is { } running && running.Stream == entry.Session.Name)
        {
            running.Take(entry);
        }
    }

    /// <summary>Measures until so many frames were taken, and writes the file.</summary>
    /// <param name="stream">The stream's name.</param>
    /// <param name="wanted">Frames.</param>
    /// <param name="every">One frame in so many is taken.</param>
    /// <param name="report">Told about once a second.</param>
    /// <param name="cancel">Ends it without a file.</param>
    /// <exception cref="FailureException">Another one runs, there is nothing to measure, the frames can't be measured, or the file can't be written.</exception>
    public async Task<CommissioningProgress> RunAsync(string stream, int wanted, int every, Func<CommissioningProgress, Task> report, CancellationToken cancel)
    {
        var collection = new Collection(stream, every);
        if (Interlocked.CompareExchange(ref _running, collection, null) is { } other)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "COMMISSIONING_RUNS",
                $"model '{folder.Name}' is being commissioned on stream '{other.Stream}'; wait until that has ended, or end its call"));
        }

        try
        {
            return await MeasureAsync(collection, wanted, report, cancel).ConfigureAwait(false);
        }
        catch (Exception refused) when (refused is CalibrationException or ModelLoadException)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "CALIBRATION_IMPOSSIBLE",
                $"model '{folder.Name}' can't be calibrated on stream '{stream}': {refused.Message}"));
        }
        catch (Exception unwritable) when (unwritable is IOException or UnauthorizedAccessException)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "CALIBRATION_NOT_WRITTEN",
                $"{ModelCalibration.FileName} of model '{folder.Name}' can't be written ({unwritable.Message}); "
                    + "let the server write to the model's folder, or calibrate with tta calibrate --model and copy the file"));
        }
        finally
        {
            Volatile.Write(ref _running, null);
        }
    }

    private async Task<CommissioningProgress> MeasureAsync(Collection collection, int wanted, Func<CommissioningProgress, Task> report, CancellationToken cancel)
    {
        var path = Path.Combine(folder.FolderPath, ModelCalibration.FileName);
        // Before an hour of frames, not behind it.
        var probe = $"{path}.probe";
        await File.WriteAllBytesAsync(probe, [], cancel).ConfigureAwait(false);
        File.Delete(probe);

        var measured = options with { ForCalibration = true, Calibration = null, CalibrationPath = null, Observation = null };
        await using var engine = await InferenceEngine.StartAsync(folder.OnnxPath, measured).ConfigureAwait(false);
        if (engine.Model.Sites.Count == 0)
        {
            throw new CalibrationException("it has no BatchNormalization and no convolution or residual block that could be normalized instead");
        }

        var settling = WarmUp.Frames(frames, engine.Model.ClipFrames);
        var calibrator = await engine.InvokeAsync(model =>
        {
            model.Settle(settling);
            return new Calibrator(model);
        }).ConfigureAwait(false);
        var progress = new CommissioningProgress(folder.Name, 0, engine.Model.Sites.Count, double.PositiveInfinity);
        await report(progress).ConfigureAwait(false);
        collection.Begin(engine.Model.ClipFrames);
        var told = clock.GetTimestamp();
        while (progress.Frames < wanted)
        {
            using var pause = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            pause.CancelAfter(UpdateInterval);
            try
            {
                await collection.Frames.WaitToReadAsync(pause.Token).ConfigureAwait(false);
            }
            catch (OperationCanceledException) when (!cancel.IsCancellationRequested)
            {
                // No frame came; the operator sees that.
            }

            if (collection.Frames.TryRead(out var frame))
            {
                progress = await engine.InvokeAsync(_ => Observe(calibrator, frame, progress)).ConfigureAwait(false);
            }

            cancel.ThrowIfCancellationRequested();
            if (clock.GetElapsedTime(told) >= UpdateInterval)
            {
                told = clock.GetTimestamp();
                await report(progress).ConfigureAwait(false);
            }
        }

        var calibration = await engine.InvokeAsync(_ => calibrator.Complete(clock.GetUtcNow())).ConfigureAwait(false);
        cancel.ThrowIfCancellationRequested();
        calibration.Write(path);
        return progress with { Sites = calibration.Sites.Count };
    }

    private static CommissioningProgress Observe(Calibrator calibrator, FrameBlock frame, CommissioningProgress before)
    {
        calibrator.Observe(frame);
        return before with { Frames = calibrator.Frames, StandardError = calibrator.StandardError };
    }

    private sealed class Collection(string stream, int every)
    {
        private readonly Channel<FrameBlock> _frames = Channel.CreateBounded<FrameBlock>(new BoundedChannelOptions(MaxWaiting) { SingleReader = true });
        private volatile int _clipFrames;
        private long _seen;

        public string Stream { get; } = stream;

        public ChannelReader<FrameBlock> Frames => _frames.Reader;

        /// <summary>Takes frames from now on; whole clips of so many.</summary>
        public void Begin(int clipFrames) => _clipFrames = clipFrames;

        public void Take(BatchEntry entry)
        {
            var clip = _clipFrames;
            for (var frame = 0; clip > 0 && frame < entry.Block.Count; frame += clip)
            {
                // What shows no picture is not what is normal.
                if (entry.NotLearned is { } reasons && reasons.Skip(frame).Take(clip).Any(reason => reason != NotLearnedReason.None))
                {
                    continue;
                }

                if (_seen++ % every == 0 && Frames.Count < MaxWaiting)
                {
                    _frames.Writer.TryWrite(entry.Block.CopyFrames(frame, clip));
                }
            }
        }
    }
}
