using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <summary>Measures models on what their cameras send, for whatever protocol. What is refused is a value. Thread-safe.</summary>
internal interface IStreamCommissioning
{
    /// <summary>Measures a stream's model on the frames that the stream is served, and writes the model's calibration.</summary>
    /// <param name="stream">The stream.</param>
    /// <param name="wanted">Frames.</param>
    /// <param name="every">One frame in so many is taken.</param>
    /// <param name="report">Told about once a second how far it is.</param>
    /// <param name="cancel">Ends it without a file.</param>
    Task<Outcome<CommissioningProgress>> RunAsync(StreamKey stream, int wanted, int every, Func<CommissioningProgress, Task> report, CancellationToken cancel);
}
