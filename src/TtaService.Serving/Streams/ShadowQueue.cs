using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Collects sampled frames of a model's adapted streams and runs them through <c>source</c>, many in a pass, after their replies were made. Thread-safe.</summary>
internal sealed class ShadowQueue(string model, InferenceEngine engine, TtaMetrics metrics, LoopBeat beat)
{
    private const int FramesInPass = 16;

    // What waits while a pass runs; more is not sampled.
    private const int MaxWaiting = 64;

    private readonly Lock _lock = new();
    private List<Sample> _waiting = [];
    private bool _running;

    /// <summary>Adds a frame with the scores that its stream was given.</summary>
    public void Add(StreamHealth health, string method, FrameBlock frame, float[] scores)
    {
        lock (_lock)
        {
            if (_waiting.Count < MaxWaiting)
            {
                _waiting.Add(new Sample(health, method, frame, scores));
            }

            if (_waiting.Count < FramesInPass)
            {
                return;
            }
        }

        _ = FlushAsync();
    }

    /// <summary>Runs what waits, unless a pass runs already. A frame that fails is left out.</summary>
    public async Task FlushAsync()
    {
        List<Sample> due;
        lock (_lock)
        {
            if (_running || _waiting.Count == 0)
            {
                return;
            }

            _running = true;
            (due, _waiting) = (_waiting, []);
        }

        beat.Begin();
        try
        {
            foreach (var alike in due.GroupBy(sample => (sample.Frame.Channels, sample.Frame.Height, sample.Frame.Width)))
            {
                foreach (var chunk in alike.Chunk(FramesInPass))
                {
                    await beat.TryAsync($"{chunk.Length} sampled frames", () => RunAsync(chunk), CancellationToken.None).ConfigureAwait(false);
                    beat.Turned();
                }
            }
        }
        finally
        {
            beat.Rest();
            lock (_lock)
            {
                _running = false;
            }
        }
    }

    private async Task RunAsync(Sample[] chunk)
    {
        IReadOnlyList<OutputTensor> outputs;
        try
        {
            outputs = await engine.InvokeAsync(model => model.RunSource(Array.ConvertAll(chunk, sample => sample.Frame))).ConfigureAwait(false);
        }
        catch (ObjectDisposedException)
        {
            // The engine stops: what was sampled is lost, and nobody waits for it.
            return;
        }

        Compare(chunk, outputs);
    }

    private void Compare(Sample[] samples, IReadOnlyList<OutputTensor> outputs)
    {
        if (engine.Model.Scores is not { Classes: { } classes } scores)
        {
            return;
        }

        for (var i = 0; i < samples.Length; i++)
        {
            var row = i * engine.Model.ClipFrames;
            var (agrees, sourceEntropy, adaptedEntropy) = samples[i].Health.Compare(samples[i].Scores, outputs[scores.Index].Values.AsSpan(row * classes, classes));
            metrics.ShadowCompared(model, samples[i].Method, agrees, sourceEntropy, adaptedEntropy);
        }
    }

    private sealed record Sample(StreamHealth Health, string Method, FrameBlock Frame, float[] Scores);
}
