using System.Diagnostics.Metrics;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Time.Testing;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Telemetry;

public sealed class ServiceFiguresTests : IDisposable
{
    private readonly FakeTimeProvider _clock = new();
    private readonly ServiceProvider _services = Services();
    private readonly ServiceFigures _figures;
    private readonly TtaMetrics _metrics;

    public ServiceFiguresTests()
    {
        var meters = _services.GetRequiredService<IMeterFactory>();
        _figures = new ServiceFigures(meters, _clock);
        _metrics = ActivatorUtilities.CreateInstance<TtaMetrics>(_services);
    }

    public void Dispose()
    {
        _figures.Dispose();
        _services.Dispose();
    }

    private static ServiceProvider Services() => new ServiceCollection().AddMetrics().AddOptions<TelemetryOptions>().Services.BuildServiceProvider();

    [Fact]
    public void Read_StepsOfAMinute_GivesRatesAndQuantiles()
    {
        for (var second = 0; second < 20; second++)
        {
            for (var i = 1; i <= 10; i++)
            {
                _metrics.StepCompleted("tiny", "ema", "camera", TimeSpan.FromMilliseconds(i == 10 ? 500 : 20), i == 1 ? FailureKind.Internal : null);
            }

            _metrics.BatchCompleted("tiny", 10, 30, TimeSpan.FromMilliseconds(4), TimeSpan.Zero, default, TimeSpan.Zero);
            _clock.Advance(TimeSpan.FromSeconds(1));
        }

        var report = _figures.Read();

        Assert.Equal(20, report.WindowSeconds, 1e-6);
        Assert.Equal(10, report.StepsPerSecond, 1e-6);
        Assert.Equal(30, report.FramesPerSecond, 1e-6);
        Assert.Equal(1, report.ErrorsPerSecond, 1e-6);
        Assert.Equal((30.0, 10.0), (report.FramesPerBatch, report.StepsPerBatch));
        Assert.InRange(report.P50Milliseconds!.Value, 19, 21);
        Assert.InRange(report.P99Milliseconds!.Value, 480, 520);
        Assert.Equal(20, Assert.Single(report.Errors).Count);
        Assert.NotEmpty(report.Phases);
    }

    [Fact]
    public void Read_AMinuteLater_HasForgotten()
    {
        _metrics.StepCompleted("tiny", "ema", "camera", TimeSpan.FromMilliseconds(20), null);
        _clock.Advance(TimeSpan.FromSeconds(65));

        var report = _figures.Read();

        Assert.Equal((0.0, (double?)null, (double?)null), (report.StepsPerSecond, report.P50Milliseconds, report.FramesPerBatch));
        Assert.Equal(60, report.WindowSeconds, 1e-6);
    }

    [Fact]
    public void Read_OtherHostsOfTheProcess_DoNotCount()
    {
        using var other = Services();
        ActivatorUtilities.CreateInstance<TtaMetrics>(other).StepCompleted("tiny", "ema", "camera", TimeSpan.FromMilliseconds(20), null);

        Assert.Equal(0, _figures.Read().StepsPerSecond);
    }
}
