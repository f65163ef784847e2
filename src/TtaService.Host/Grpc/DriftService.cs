using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;
using DriftLevel = TtaService.Engine.Drift.DriftLevel;
using DriftUpdate = TtaService.V1.DriftUpdate;
using FramesNotLearned = TtaService.V1.FramesNotLearned;
using StreamDrift = TtaService.V1.StreamDrift;
using StreamRolledBack = TtaService.V1.StreamRolledBack;
using WireLevel = TtaService.V1.DriftLevel;

namespace TtaService.Host.Grpc;

/// <summary>What the board says of drift.</summary>
internal sealed class DriftService(IDriftWatching drift, IHostApplicationLifetime lifetime) : V1.DriftService.DriftServiceBase
{
    private const int DefaultWorst = 20;
    private const int MaxWorst = 1000;

    public override async Task WatchDrift(WatchDriftRequest request, IServerStreamWriter<DriftUpdate> responseStream, ServerCallContext context)
    {
        if (request.Worst is < 0 or > MaxWorst)
        {
            throw new FailureException(Failure.Invalid("WORST_OUT_OF_RANGE", "worst", $"worst is 0 (meaning {DefaultWorst}) to {MaxWorst}, not {request.Worst}"));
        }

        var worst = request.Worst == 0 ? DefaultWorst : request.Worst;
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, lifetime.ApplicationStopping);
        using var feed = drift.Watch(request.Model).OrThrow();
        try
        {
            await foreach (var update in feed.ReadAsync(ended.Token).ConfigureAwait(false))
            {
                await responseStream.WriteAsync(ToWire(update, worst), ended.Token).ConfigureAwait(false);
            }
        }
        catch (OperationCanceledException) when (lifetime.ApplicationStopping.IsCancellationRequested)
        {
            throw new FailureException(Failure.Stopping());
        }
    }

    public override async Task<StreamDrift> GetDrift(GetDriftRequest request, ServerCallContext context) =>
        ToWire((await drift.ReadAsync(StreamKey.Checked(request.Stream, "stream")).ConfigureAwait(false)).OrThrow());

    private static DriftUpdate ToWire(Serving.Telemetry.DriftUpdate update, int worst)
    {
        var wire = new DriftUpdate { Time = update.Time.ToTimestamp() };
        switch (update)
        {
            case LevelChanged change:
                wire.Level = new DriftLevelChange { Before = ToWire(change.Before), Stream = ToWire(change.Stream) };
                break;
            case DomainSwitched change:
                wire.Domain = new DomainSwitch { Stream = ToWire(change.Stream) };
                break;
            case Serving.Telemetry.FramesNotLearned began:
                wire.NotLearned = new FramesNotLearned { Stream = began.Stream, Model = began.Model, Reason = Label<NotLearnedReason>.Of(began.Reason), Frames = began.Frames };
                break;
            case Serving.Telemetry.StreamRolledBack back:
                wire.RolledBack = new StreamRolledBack { Stream = back.Stream, Model = back.Model, Method = back.Method, Step = back.Step };
                break;
            default:
                wire.Summary = ToWire(((Swept)update).Report, worst);
                break;
        }

        return wire;
    }

    private static DriftSummary ToWire(DriftReport report, int worst)
    {
        var summary = new DriftSummary
        {
            Model = report.Model,
            Calibration = report.Calibration,
            Calibrated = report.Reference is not null,
            Took = Duration.FromTimeSpan(report.Took),
        };
        var levels = report.Streams.GroupBy(stream => stream.Level).OrderBy(level => level.Key);
        summary.Levels.AddRange(levels.Select(level => new DriftLevelCount { Level = ToWire(level.Key), Streams = level.Count() }));
        summary.Worst.AddRange(report.Streams.Take(worst).Select(ToWire));
        return summary;
    }

    private static StreamDrift ToWire(Serving.Telemetry.StreamDrift drift)
    {
        var wire = new StreamDrift
        {
            Stream = drift.Stream,
            Model = drift.Model,
            Method = drift.Method,
            Level = ToWire(drift.Level),
            ObservedFrames = drift.Reading.Frames,
            Step = drift.Reading.Steps,
            ChangedAtStep = drift.Reading.ChangedAtStep,
            FeatureSpread = drift.Reading.FeatureSpread,
            Predictions = ToWire(drift.Predictions),
        };
        if (drift.Reading.Score is { } score)
        {
            wire.Score = score;
        }

        return wire;
    }

    /// <summary>A stream's drift, by site.</summary>
    public static StreamDrift ToWire(StreamDriftFigures figures)
    {
        var wire = ToWire(figures.Drift);
        foreach (var site in figures.Sites)
        {
            var drift = new SiteDrift { Name = site.Name, GaussianKl = site.GaussianKl, Wasserstein = site.Wasserstein };
            if (site.Limit is { } limit)
            {
                drift.Limit = limit;
            }

            wire.Sites.Add(drift);
        }

        wire.Predictions.Classes.AddRange(figures.Drift.Predictions.Classes);
        return wire;
    }

    private static PredictionDrift ToWire(PredictionReading reading)
    {
        var wire = new PredictionDrift
        {
            Frames = reading.Frames,
            BlankFrames = reading.BlankFrames,
            FrozenFrames = reading.FrozenFrames,
            ShadowFrames = reading.ShadowFrames,
            ShadowAgreed = reading.ShadowAgreed,
        };
        if (reading.Entropy is { } entropy)
        {
            wire.Entropy = entropy;
        }

        if (reading.LabelShift is { } shift)
        {
            wire.LabelShift = shift;
        }

        if (reading.Diversity is { } diversity)
        {
            wire.Diversity = diversity;
        }

        if (reading is { ShadowSourceEntropy: { } source, ShadowAdaptedEntropy: { } adapted })
        {
            (wire.ShadowSourceEntropy, wire.ShadowAdaptedEntropy) = (source, adapted);
        }

        return wire;
    }

    private static WireLevel ToWire(DriftLevel level) => level switch
    {
        DriftLevel.Uncalibrated => WireLevel.Uncalibrated,
        DriftLevel.WarmingUp => WireLevel.WarmingUp,
        DriftLevel.Normal => WireLevel.Normal,
        DriftLevel.Warning => WireLevel.Warning,
        _ => WireLevel.Critical,
    };
}
