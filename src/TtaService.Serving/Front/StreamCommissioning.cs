using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IStreamCommissioning"/>
internal sealed class StreamCommissioning(StreamDirectory directory, StreamOpenings openings) : IStreamCommissioning
{
    public Task<Outcome<CommissioningProgress>> RunAsync(StreamKey stream, int wanted, int every, Func<CommissioningProgress, Task> report, CancellationToken cancel) =>
        Outcome.OfAsync(async () =>
        {
            var session = await openings.LoadAsync(stream).ConfigureAwait(false);
            return await session.Model.Commissioning.RunAsync(session.Name, wanted, every, ReportAsync, cancel).ConfigureAwait(false);

            Task ReportAsync(CommissioningProgress progress) => directory.Contains(stream)
                ? report(progress)
                : throw new FailureException(Failure.StreamNotFound(stream.Name, "it was deleted, or went to the store, while its frames were awaited"));
        });
}
