using System.Runtime.CompilerServices;
using TtaService.Serving.Drift;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Front;

/// <inheritdoc cref="IDriftWatching"/>
internal sealed class DriftWatching(DriftBoard board, ModelCatalog models, StreamDirectory directory) : IDriftWatching
{
    public Outcome<IDriftFeed> Watch(string model) => Outcome.Of<IDriftFeed>(() =>
    {
        if (model.Length > 0)
        {
            _ = models.Find(model);
        }

        return new Feed(model, board);
    });

    public Task<Outcome<StreamDriftFigures>> ReadAsync(StreamKey stream) => Outcome.OfAsync(async () =>
    {
        var session = directory.Get(stream);
        if (session.Model.Drift.Monitor is not { } monitor)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "DRIFT_NOT_WATCHED",
                $"the drift of model '{session.Model.Name}' is {session.Model.Drift.Calibration}"));
        }

        var drift = await DriftPublisher.ReadAsync(session, monitor).ConfigureAwait(false)
            ?? throw new FailureException(new Failure(FailureKind.FailedPrecondition, "NOTHING_OBSERVED", $"nothing was observed of stream '{session.Name}' yet; send frames"));
        var normal = monitor.Reference?.Of(drift.Method);
        return new StreamDriftFigures(drift, [.. monitor.Sites.Select((site, i) =>
            new SiteDriftFigures(site.Name, drift.Reading.GaussianKl[i], drift.Reading.Wasserstein[i], normal is null ? null : normal.Sites[i].Limit * normal.ScoreLimit))]);
    });

    private sealed class Feed(string model, DriftBoard board) : IDriftFeed
    {
        // From here on, so that nothing between the latest sweep and the first update is missed.
        private readonly DriftWatch _watch = board.Watch();

        public async IAsyncEnumerable<DriftUpdate> ReadAsync([EnumeratorCancellation] CancellationToken cancel)
        {
            foreach (var report in board.Latest.Values.Where(report => Concerns(report.Model)))
            {
                yield return new Swept(report.Time, report);
            }

            await foreach (var update in _watch.ReadAsync(cancel).ConfigureAwait(false))
            {
                if (Concerns(ModelOf(update)))
                {
                    yield return update;
                }
            }
        }

        public void Dispose() => _watch.Dispose();

        private bool Concerns(string of) => model.Length == 0 || of == model;

        private static string ModelOf(DriftUpdate update) => update switch
        {
            LevelChanged change => change.Stream.Model,
            DomainSwitched change => change.Stream.Model,
            FramesNotLearned began => began.Model,
            StreamRolledBack back => back.Model,
            _ => ((Swept)update).Report.Model,
        };
    }
}
