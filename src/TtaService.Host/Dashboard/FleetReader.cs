using Microsoft.Extensions.Options;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Serving.Store;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Dashboard;

/// <summary>Gathers what the page shows.</summary>
internal sealed class FleetReader(
    DriftBoard board,
    DriftHistory history,
    ServiceFigures figures,
    StreamDirectory directory,
    ModelCatalog models,
    StoreHealth health,
    IOptions<StoreOptions> store,
    IOptions<StreamsOptions> streams,
    TimeProvider clock)
{
    // Half an hour, in a cell of a table.
    private const int Strip = 120;
    private const int ShownEvents = 50;
    private const int ShownClasses = 20;
    private const int FewStreams = 20;

    private static readonly TimeSpan LateCheckpoint = TimeSpan.FromMinutes(3);

    public FleetView Fleet(string model, bool canAct)
    {
        var sessions = directory.Loaded.ToArray();
        var (oldest, dirty, resident) = (TimeSpan.Zero, 0, 0);
        foreach (var session in sessions)
        {
            lock (session.Gate)
            {
                resident += session.State is { IsResident: true } ? 1 : 0;
                if (session.Keeping.Dirty)
                {
                    dirty++;
                    var age = clock.GetElapsedTime(session.Keeping.DirtySince);
                    oldest = age > oldest ? age : oldest;
                }
            }
        }

        var report = Report(model);
        var checkpoints = new CheckpointView(oldest.TotalSeconds, dirty, health.Trouble);
        var levels = Enum.GetValues<DriftLevel>().ToDictionary(Word, level => report?.Streams.Count(drift => drift.Level == level) ?? 0);
        return new FleetView(
            clock.GetUtcNow(),
            store.Value.Replica,
            canAct,
            [.. models.All.Select(served => new ModelView(
                served.Name,
                served.DefaultMethod.Name,
                [.. served.Engine.Model.Sites.Select(site => site.Name)],
                served.Drift.Calibration,
                Reference(served)))],
            new StreamCounts(sessions.Length, resident, streams.Value.MaxStreams),
            levels,
            figures.Read(),
            checkpoints,
            [.. Alerts(report, checkpoints)]);
    }

    /// <summary>A page of the streams in this process.</summary>
    public StreamRows List(StreamQuery query)
    {
        var drifts = Drifts();
        var rows = directory.Loaded
            .Where(session => query.Model.Length == 0 || session.Model.Name == query.Model)
            .Select(session => Row(session, drifts.GetValueOrDefault(session.Name)))
            .Where(row => row.Matches(query.Filter));
        var sorted = query.Sort switch
        {
            "name" => rows.OrderBy(row => row.Name, StringComparer.Ordinal),
            "entropy" => rows.OrderByDescending(row => row.Entropy),
            "label_shift" => rows.OrderByDescending(row => row.LabelShift),
            "agreement" => rows.OrderBy(row => row.Agreement ?? 2),
            "steps" => rows.OrderByDescending(row => row.Steps),
            "saved" => rows.OrderByDescending(row => row.UnsavedSeconds),
            _ => rows.OrderByDescending(row => row.Score ?? -1),
        };
        var all = sorted.ThenBy(row => row.Name, StringComparer.Ordinal).ToList();
        return new StreamRows(all.Count, [.. all.Skip(query.Offset).Take(query.Limit).Select(row => row with { Strip = history.Scores(row.Name, Strip) })]);
    }

    /// <summary>All that is known of one stream.</summary>
    /// <exception cref="FailureException">It is not in this process.</exception>
    public StreamDetail Find(string name)
    {
        var session = directory.Get(StreamKey.Of(name));
        var drift = board.Find(name);
        var normal = Normal(session.Model, session.Method.Name);
        var classes = drift?.Predictions.Classes ?? [];
        return new StreamDetail(Row(session, drift))
        {
            Sites = drift is null
                ? []
                : [.. session.Model.Engine.Model.Sites.Select((site, i) => new SiteView(
                    site.Name,
                    drift.Reading.GaussianKl[i],
                    normal?.Sites[i].Limit,
                    drift.Reading.Wasserstein[i]))],
            Classes = [.. classes.Select((share, i) => new ClassView(
                session.Model.Labels.ElementAtOrDefault(i) ?? $"{i}",
                share,
                normal?.Classes.Count == classes.Count ? normal.Classes[i] : null)).OrderByDescending(entry => entry.Share).Take(ShownClasses)],
            TestWeight = drift?.Reading.TestWeight,
            OccupancyEntropy = drift?.Reading.OccupancyEntropy,
            BlankFrames = drift?.Predictions.BlankFrames ?? 0,
            FrozenFrames = drift?.Predictions.FrozenFrames ?? 0,
            Events = [.. board.Events.Select(update => View(update, name)).OfType<EventView>().Reverse().Take(ShownEvents)],
        };
    }

    /// <summary>The drift of one stream by site over the last hour.</summary>
    /// <exception cref="FailureException">It is not in this process.</exception>
    public DriftStrip Drift(string name)
    {
        var session = directory.Get(StreamKey.Of(name));
        var data = history.Sites(name);
        IReadOnlyList<string> sites = data.Length == 0 ? [] : [.. session.Model.Engine.Model.Sites.Select(site => site.Name)];
        return new DriftStrip(sites, DriftHistory.Columns, DriftHistory.ColumnTime.TotalSeconds, data, history.Scores(name));
    }

    /// <summary>The scores of all streams over the last hour, worst first; of many, each row is the worst of its neighbours.</summary>
    public FleetStrip FleetStrip(string model, int rows)
    {
        var here = directory.Loaded.Select(session => session.Name).ToHashSet(StringComparer.Ordinal);
        var names = (Report(model)?.Streams ?? []).Select(drift => drift.Stream).Where(here.Contains).ToList();
        var shown = Math.Min(rows, names.Count);
        var data = new byte[shown * DriftHistory.Columns];
        for (var i = 0; i < names.Count; i++)
        {
            var row = data.AsSpan((int)((long)i * shown / names.Count) * DriftHistory.Columns, DriftHistory.Columns);
            System.Numerics.Tensors.TensorPrimitives.Max(row, history.Scores(names[i]), row);
        }

        return new FleetStrip(
            names.Count,
            shown,
            DriftHistory.Columns,
            DriftHistory.ColumnTime.TotalSeconds,
            [.. Enumerable.Range(0, shown).Select(row => names[(int)(((long)row * names.Count + shown - 1) / shown)])],
            data);
    }

    private static EventView? View(DriftUpdate update, string stream) => update switch
    {
        LevelChanged change when change.Stream.Stream == stream => new EventView(change.Time, Word(change.Stream.Level), change.Stream.Reading.Score, change.Stream.Reading.Steps),
        FramesNotLearned began when began.Stream == stream => new EventView(began.Time, null, null, 0, Label<NotLearnedReason>.Of(began.Reason), began.Frames),
        StreamRolledBack back when back.Stream == stream => new EventView(back.Time, null, null, back.Step, RolledBack: true),
        _ => null,
    };

    public static string Word(DriftLevel level) => System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName(level.ToString());

    private DriftReport? Report(string model) => models.All.Count > 0 ? board.Latest.GetValueOrDefault(model.Length > 0 ? model : models.All.First().Name) : null;

    private Dictionary<string, StreamDrift> Drifts()
    {
        var drifts = new Dictionary<string, StreamDrift>(StringComparer.Ordinal);
        foreach (var drift in board.Latest.Values.SelectMany(report => report.Streams))
        {
            drifts[drift.Stream] = drift;
        }

        return drifts;
    }

    private StreamRow Row(StreamSession session, StreamDrift? drift)
    {
        var described = session.Describe();
        double? unsaved;
        lock (session.Gate)
        {
            unsaved = session.Keeping.Dirty ? clock.GetElapsedTime(session.Keeping.DirtySince).TotalSeconds : null;
        }

        var predictions = drift?.Predictions;
        var normal = Normal(session.Model, described.Method.Name);
        return new StreamRow
        {
            Name = described.Name,
            Model = described.Model,
            Method = described.Method.Name,
            Level = Word(drift?.Level ?? (session.Model.Drift.Monitor?.Reference is null ? DriftLevel.Uncalibrated : DriftLevel.WarmingUp)),
            Score = drift?.Reading.Score,
            Hint = drift is null || normal is null ? null : Hint(drift.Reading.GaussianKl, normal.Sites),
            Entropy = predictions?.Entropy,
            EntropyRatio = normal?.Entropy > 0 ? predictions?.Entropy / normal.Entropy : null,
            LabelShift = predictions?.LabelShift,
            Diversity = predictions?.Diversity,
            Agreement = predictions is { ShadowFrames: > 0 } ? (double)predictions.ShadowAgreed / predictions.ShadowFrames : null,
            Steps = described.Steps,
            Frames = described.Frames,
            AgeSeconds = described.Age.TotalSeconds,
            Frozen = described.Settings.Frozen,
            Pinned = described.Settings.Pinned,
            Resident = described.Resident,
            UnsavedSeconds = unsaved,
            ChangedAtStep = drift?.Reading.ChangedAtStep ?? 0,
        };
    }

    private static MethodReference? Normal(ServedModel model, string method) => model.Drift.Monitor?.Reference?.Of(method);

    private static ReferenceView? Reference(ServedModel model) =>
        model.Drift.Monitor?.Reference is { } reference ? new ReferenceView(reference.Created, reference.Frames, reference.Streams) : null;

    // Where it drifted most: what a picture looks like shows early in the network, what it is about late.
    private static string? Hint(float[] kl, IReadOnlyList<SiteReference> sites)
    {
        var third = Math.Max(1, kl.Length / 3);
        var over = kl.Select((value, site) => value / sites[site].Limit).ToArray();
        var (early, late) = (over[..third].Average(), over[^third..].Average());
        return Math.Max(early, late) < 1 ? null
            : early > 1.5 * late ? "appearance: light, lens, weather"
            : late > 1.5 * early ? "content: other things than the model knows"
            : "throughout the network";
    }

    private static IEnumerable<string> Alerts(DriftReport? report, CheckpointView checkpoints)
    {
        if (checkpoints.Trouble is { } trouble)
        {
            yield return $"The state store does not serve: {trouble}";
        }

        if (checkpoints.LagSeconds > LateCheckpoint.TotalSeconds)
        {
            yield return $"A change is not stored since {checkpoints.LagSeconds:0} s; a crash would lose it.";
        }

        if (report is { Streams.Count: >= FewStreams } && report.Streams.Count(drift => drift.Level == DriftLevel.Critical) is var critical && critical > report.Streams.Count / 4)
        {
            yield return $"{critical} of {report.Streams.Count} streams drifted critically: look for a common cause, such as a release, the weather or the preprocessing.";
        }
    }
}

/// <summary>Which streams a page shows.</summary>
/// <param name="Model">Empty for all.</param>
/// <param name="Sort">drift, name, entropy, label_shift, agreement, steps or saved.</param>
/// <param name="Filter">Part of a name or method, or the beginning of a level.</param>
/// <param name="Offset">Rows to skip.</param>
/// <param name="Limit">Rows at most.</param>
internal sealed record StreamQuery(string Model, string Sort, string Filter, int Offset, int Limit);
