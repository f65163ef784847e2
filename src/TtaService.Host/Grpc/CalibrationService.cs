using Grpc.Core;
using TtaService.Engine.Calibration;
using TtaService.Serving;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Commissioning over the wire.</summary>
internal sealed class CalibrationService(IStreamCommissioning commissioning, IHostApplicationLifetime lifetime) : V1.CalibrationService.CalibrationServiceBase
{
    private const int DefaultFrames = 512;
    private const int MaxFrames = 1_000_000;
    private const int MaxEvery = 100_000;

    public override async Task CommissionStream(CommissionStreamRequest request, IServerStreamWriter<CommissionStreamUpdate> responseStream, ServerCallContext context)
    {
        var wanted = request.Frames == 0 ? DefaultFrames : request.Frames;
        if (wanted is < Calibrator.MinFrames or > MaxFrames)
        {
            throw new FailureException(Failure.Invalid(
                "FRAMES_OUT_OF_RANGE",
                "frames",
                $"frames is {Calibrator.MinFrames} to {MaxFrames}, or 0 for {DefaultFrames}, not {request.Frames}"));
        }

        if (request.Every is < 0 or > MaxEvery)
        {
            throw new FailureException(Failure.Invalid("EVERY_OUT_OF_RANGE", "every", $"every is 1 to {MaxEvery}, or 0 for 1, not {request.Every}"));
        }

        var stream = StreamKey.Checked(request.Stream, "stream");
        using var ended = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, lifetime.ApplicationStopping);
        try
        {
            var last = (await commissioning.RunAsync(stream, wanted, Math.Max(1, request.Every), ReportAsync, ended.Token).ConfigureAwait(false)).OrThrow();
            await responseStream.WriteAsync(ToWire(last, written: true), ended.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (lifetime.ApplicationStopping.IsCancellationRequested)
        {
            throw new FailureException(Failure.Stopping());
        }

        Task ReportAsync(CommissioningProgress progress) => responseStream.WriteAsync(ToWire(progress, written: false), ended.Token);

        CommissionStreamUpdate ToWire(CommissioningProgress progress, bool written) => new()
        {
            Model = progress.Model,
            Frames = progress.Frames,
            Wanted = wanted,
            Sites = progress.Sites,
            StandardError = double.IsFinite(progress.StandardError) ? progress.StandardError : 0,
            Written = written,
        };
    }
}
