using TtaService.Serving.Streams;
using TtaService.Serving.Streams.Keeping;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IStreamOperations"/>
internal sealed class StreamOperations(
    StreamDirectory directory,
    StreamOpenings openings,
    StreamDepartures departures,
    StreamChanges changes,
    StreamList list,
    StoredStreams stored,
    ModelCatalog models) : IStreamOperations
{
    public Task<Outcome<StreamDescription>> CreateAsync(StreamRequest request) => DescribedAsync(() => openings.CreateAsync(request));

    public Task<Outcome<StreamDescription>> GetAsync(StreamKey stream) => DescribedAsync(() => openings.LoadAsync(stream));

    public Task<Outcome<StreamListing>> ListAsync(string model, string after, int count) => Outcome.OfAsync(async () =>
    {
        if (model.Length > 0)
        {
            _ = models.Find(model);
        }

        var page = await list.ReadAsync(model, after, count).ConfigureAwait(false);
        return new StreamListing([.. page.Streams.Select(Summarize)], page.More, page.Warning);
    });

    public Task<Outcome<StreamDescription>> UpdateAsync(StreamKey stream, Func<StreamSettings, StreamSettings> change) => DescribedAsync(async () =>
    {
        var session = await openings.LoadAsync(stream).ConfigureAwait(false);
        session.Update(change);
        return session;
    });

    public Task<Outcome<StreamDescription>> ResetAsync(StreamKey stream) => DescribedAsync(async () =>
    {
        var session = await openings.LoadAsync(stream).ConfigureAwait(false);
        await changes.ResetAsync(session).ConfigureAwait(false);
        return session;
    });

    public Task<Outcome<string>> DeleteAsync(StreamKey stream) => Outcome.OfAsync(async () =>
    {
        await departures.DeleteAsync(stream).ConfigureAwait(false);
        return stream.Name;
    });

    public Task<Outcome<byte[]>> ExportAsync(StreamKey stream) =>
        Outcome.OfAsync(async () => await changes.ExportAsync(await openings.LoadAsync(stream).ConfigureAwait(false)).ConfigureAwait(false));

    public Task<Outcome<StreamDescription>> ImportAsync(StreamKey stream, string model, ReadOnlyMemory<byte> snapshot) =>
        DescribedAsync(() => openings.ImportAsync(stream, model, snapshot));

    public Task<Outcome<StreamDescription>> ForkAsync(StreamKey source, StreamKey stream) =>
        DescribedAsync(async () => await openings.ForkAsync(await openings.LoadAsync(source).ConfigureAwait(false), stream).ConfigureAwait(false));

    public Task<Outcome<IReadOnlyList<KeptCheckpoint>>> CheckpointsAsync(StreamKey stream) => Outcome.OfAsync<IReadOnlyList<KeptCheckpoint>>(async () =>
    {
        var kept = await stored.CheckpointsAsync(stream).ConfigureAwait(false);
        return kept.Count > 0 || directory.Contains(stream)
            ? [.. kept.Select(one => new KeptCheckpoint(one.Number, one.Step, one.Sequence, one.Saved, one.Bytes, one.Method, one.Owner))]
            : throw new FailureException(Failure.StreamNotFound(stream.Name));
    });

    public Task<Outcome<StreamDescription>> RollBackAsync(StreamKey stream, long checkpoint) => DescribedAsync(async () =>
    {
        if (checkpoint < 0)
        {
            throw new FailureException(Failure.Invalid(
                "CHECKPOINT_INVALID",
                "checkpoint",
                $"checkpoint is a number that ListCheckpoints gave, or 0 for the newest, not {checkpoint}"));
        }

        var session = await openings.LoadAsync(stream).ConfigureAwait(false);
        var number = checkpoint > 0 ? checkpoint : await NewestAsync(stream).ConfigureAwait(false);
        await changes.RollBackAsync(session, await stored.ReadAsync(stream, number).ConfigureAwait(false)).ConfigureAwait(false);
        return session;
    });

    private async Task<long> NewestAsync(StreamKey stream)
    {
        var kept = await stored.CheckpointsAsync(stream).ConfigureAwait(false);
        return kept.Count > 0
            ? kept[0].Number
            : throw new FailureException(new Failure(
                FailureKind.NotFound,
                "CHECKPOINT_NOT_FOUND",
                $"no checkpoint of stream '{stream.Name}' is stored yet; one is made within Store:CheckpointInterval"));
    }

    private static Task<Outcome<StreamDescription>> DescribedAsync(Func<Task<StreamSession>> operation) =>
        Outcome.OfAsync(async () => (await operation().ConfigureAwait(false)).Describe());

    private static StreamSummary Summarize(ListedStream listed) => new(
        listed.Name,
        listed.Model,
        listed.Session?.Describe(),
        listed.Session is null && listed.Stored is { Latest: var latest }
            ? new StoredSummary(latest.Method, latest.Step, latest.Sequence, latest.Saved, listed.Stored.Owner)
            : null);
}
