using System.Diagnostics.Metrics;
using Grpc.Core;
using TtaService.Engine.Execution;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Loops;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Loops;

/// <summary>Whatever fails around a pass is the failure of its steps: no step runs twice, and no stream runs for ever.</summary>
public sealed class BatcherBorderTests
{
    [Fact]
    public async Task Pass_FailsAfterPartWasCommitted_WhatCountsRunsNoSecondTime()
    {
        await using var host = await TestHost.StartAsync();
        host.ExpectsDefects = true;
        var batcher = host.Part<ModelCatalog>().Find(TestHost.Model).Batcher;
        using var first = await DuplexClient.OpenAsync(host, "first");
        using var second = await DuplexClient.OpenAsync(host, "second");
        var run = batcher.Runner.RunPass;
        batcher.Runner.RunPass = (model, steps) =>
        {
            if (steps.Count < 2)
            {
                return run(model, steps);
            }

            run(model, [steps[0]]);
            throw new InvalidOperationException("after the first of them");
        };
        using (await host.OccupyBatcherAsync())
        {
            await first.SendAsync(1, TestFrames.Tensor(1));
            await host.UntilAsync("first", session => session.Waiting.Phase == StreamPhase.Ready);
            await second.SendAsync(1, TestFrames.Tensor(2));
            await host.UntilAsync("second", session => session.Waiting.Phase == StreamPhase.Ready);
        }

        var lost = (await first.ReadAsync()).Error;
        Assert.Equal(((int)StatusCode.Internal, "ANSWER_LOST"), (lost.Code, lost.Reason));
        Assert.Equal(1, (await second.ReadAsync()).Step.Step);
        // Sent again it is not adapted again, and the next one is the second.
        Assert.Equal("STEP_ALREADY_PASSED", (await first.StepAsync(1, TestFrames.Tensor(1))).Error.Reason);
        Assert.Equal(2, (await first.StepAsync(2, TestFrames.Tensor(3))).Step.Step);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Attempt_RunThrows_TellsWhatWasCommitted(bool freeze)
    {
        using var model = AdaptiveModel.Load(
            Path.Combine(TestHost.ModelsPath, TestHost.Model, "model.onnx"), new AdaptiveModelOptions { Threads = 1, Observation = new Engine.Drift.ObservationOptions() });
        await Task.CompletedTask;
        var method = Engine.Normalization.MethodSettings.Create("ema");
        var frame = FrameBlock.FromValues(TestFrames.Values(1), 1, 3, 16, 16);
        var steps = Enumerable.Range(0, 2).Select(_ => new StreamStep(model.CreateState(method), frame, freeze)).ToList();

        var attempt = PassAttempt.Run(steps, all =>
        {
            model.Run([all[1]]);
            throw new InvalidOperationException();
        });

        Assert.Null(attempt.Results);
        Assert.Null(attempt.Committed[0]);
        // A frozen step was observed all the same.
        Assert.Equal(freeze ? (0, 0) : (1, 1), attempt.Committed[1]);
    }

    [Fact]
    public async Task Report_Throws_TheStepsAreAnsweredAndTheStreamGoesOn()
    {
        await using var host = await TestHost.StartAsync();
        host.ExpectsDefects = true;
        using var listener = new MeterListener();
        var throws = true;
        listener.InstrumentPublished = (instrument, self) =>
        {
            if (instrument.Name == MetricCatalogue.StepDuration.Name && ReferenceEquals(instrument.Meter.Scope, host.Part<IMeterFactory>()))
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<double>((_, _, _, _) =>
        {
            if (throws)
            {
                throw new InvalidOperationException("the listener");
            }
        });
        listener.Start();
        using var call = await DuplexClient.OpenAsync(host, "camera");
        for (var i = 1; i <= 3; i++)
        {
            Assert.Equal(i, (await call.StepAsync((ulong)i, TestFrames.Tensor(i))).Step.Step);
        }

        // A step that never runs is reported elsewhere.
        Assert.Equal("FRAME_SHAPE_WRONG", (await call.StepAsync(4, TestFrames.Tensor([5, 4, 4], new float[80]))).Error.Reason);
        Assert.Equal(4, (await call.StepAsync(4, TestFrames.Tensor(4))).Step.Step);
        throws = false;
        Assert.Contains(host.Defects, defect => defect.Contains("failed on a report of steps", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Answer_CantBeMade_TheStepCountsAndTheStreamGoesOn()
    {
        await using var host = await TestHost.StartAsync();
        host.ExpectsDefects = true;
        var batcher = host.Part<ModelCatalog>().Find(TestHost.Model).Batcher;
        using var call = await DuplexClient.OpenAsync(host, "camera");
        var run = batcher.Runner.RunPass;
        batcher.Runner.RunPass = (model, steps) => [.. run(model, steps).Select(result => result with { Outputs = null! })];
        Assert.Equal("ANSWER_LOST", (await call.StepAsync(1, TestFrames.Tensor(1))).Error.Reason);

        batcher.Runner.RunPass = run;
        Assert.Equal("STEP_ALREADY_PASSED", (await call.StepAsync(1, TestFrames.Tensor(1))).Error.Reason);
        Assert.Equal(2, (await call.StepAsync(2, TestFrames.Tensor(2))).Step.Step);
        await host.UntilAsync("camera", session => session is { Waiting: { Phase: StreamPhase.Idle, PendingSteps: 0 } });
    }
}
