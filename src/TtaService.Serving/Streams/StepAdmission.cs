namespace TtaService.Serving.Streams;

/// <summary>How much may wait: counts steps and bytes over all streams of a model, and says why a further step is refused. Guarded by the batcher's gate.</summary>
internal sealed class StepAdmission(BatchingOptions options, StreamsOptions streams)
{
    private int _steps;
    private long _bytes;
    private double _secondsPerStep;

    /// <summary>Steps that wait or run. Read without the gate.</summary>
    public int Steps => Volatile.Read(ref _steps);

    /// <summary>Why a step has no room; null when it has.</summary>
    public Failure? WhyFull(string stream, StreamQueue queue, long bytes)
    {
        if (queue.PendingSteps >= streams.MaxPendingSteps)
        {
            var waiting = $"{queue.PendingSteps} steps of stream '{stream}' wait already, the limit is {streams.MaxPendingSteps} (Streams:MaxPendingSteps)";
            return Overloaded("STREAM_QUEUE_FULL", $"{waiting}; wait for replies", queue.PendingSteps);
        }

        if (_steps >= RoomFor(queue, options.MaxQueuedSteps))
        {
            return Overloaded("QUEUE_FULL", $"{_steps} steps wait already, the limit is {options.MaxQueuedSteps} (Batching:MaxQueuedSteps); send again later", _steps);
        }

        if (bytes > options.MaxQueuedBytes)
        {
            var taken = $"the step takes {bytes} bytes, encoded and decoded, and all that wait may take {options.MaxQueuedBytes} (Batching:MaxQueuedBytes)";
            return new Failure(FailureKind.ResourceExhausted, "STEP_TOO_LARGE", $"{taken}; send fewer frames a step") { Field = "step.frames" };
        }

        if (bytes > RoomFor(queue, options.MaxQueuedBytes) - _bytes)
        {
            var waiting = $"{_bytes} bytes of frames wait already and the step brings {bytes}, the limit is {options.MaxQueuedBytes} (Batching:MaxQueuedBytes)";
            return Overloaded("QUEUE_FULL", $"{waiting}; send again later", _steps);
        }

        return null;
    }

    /// <summary>Counts a step.</summary>
    public void Enter(StreamQueue queue, long bytes)
    {
        _steps++;
        _bytes += bytes;
        queue.PendingSteps++;
    }

    /// <summary>A step has its outcome.</summary>
    public void Leave(StreamQueue queue, long bytes)
    {
        _steps--;
        _bytes -= bytes;
        queue.PendingSteps--;
    }

    /// <summary>A pass of so many streams took so long: who is refused is told when to come again.</summary>
    public void Ran(TimeSpan run, int streamsInPass)
    {
        var perStep = run.TotalSeconds / streamsInPass;
        _secondsPerStep = _secondsPerStep == 0 ? perStep : (0.9 * _secondsPerStep) + (0.1 * perStep);
    }

    // Some room is kept for streams that have nothing waiting: those that send all they may cannot fill the queue for those that send a frame now and then.
    private static long RoomFor(StreamQueue queue, long limit) => queue.PendingSteps == 0 ? limit : limit - (limit / 8);

    private Failure Overloaded(string reason, string message, int ahead) =>
        new(FailureKind.ResourceExhausted, reason, message) { RetryAfter = TimeSpan.FromSeconds(Math.Clamp(ahead * _secondsPerStep / 2, 0.01, 5)) };
}
