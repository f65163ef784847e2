using System.Diagnostics.CodeAnalysis;

namespace TtaService.Host.Dashboard;

/// <summary>The head of every page.</summary>
internal sealed record FleetView(
    DateTimeOffset Time,
    string Replica,
    bool CanAct,
    IReadOnlyList<ModelView> Models,
    StreamCounts Streams,
    IReadOnlyDictionary<string, int> Levels,
    Serving.Telemetry.ServiceReport Rates,
    CheckpointView Checkpoints,
    IReadOnlyList<string> Alerts);

internal sealed record ModelView(string Name, string DefaultMethod, IReadOnlyList<string> Sites, string Calibration, ReferenceView? Reference);

internal sealed record ReferenceView(DateTimeOffset Created, long Frames, int Streams);

internal sealed record StreamCounts(int Known, int Resident, int Limit);

/// <param name="LagSeconds">Age of the oldest change that is not stored.</param>
/// <param name="Dirty">Streams with such changes.</param>
/// <param name="Trouble">Why the store does not serve; null when it does.</param>
internal sealed record CheckpointView(double LagSeconds, int Dirty, string? Trouble);

/// <summary>A row of the list of streams.</summary>
internal record StreamRow
{
    public required string Name { get; init; }

    public required string Model { get; init; }

    public required string Method { get; init; }

    /// <summary>uncalibrated, warming_up, normal, warning, critical.</summary>
    public required string Level { get; init; }

    public required double? Score { get; init; }

    /// <summary>In words, where in the network it drifted; null when nowhere.</summary>
    public required string? Hint { get; init; }

    public required double? Entropy { get; init; }

    /// <summary>Entropy over that of normal frames.</summary>
    public required double? EntropyRatio { get; init; }

    public required double? LabelShift { get; init; }

    public required double? Diversity { get; init; }

    /// <summary>Share of the sampled frames to which source gives the same class.</summary>
    public required double? Agreement { get; init; }

    public required long Steps { get; init; }

    public required long Frames { get; init; }

    public required double AgeSeconds { get; init; }

    public required bool Frozen { get; init; }

    public required bool Pinned { get; init; }

    public required bool Resident { get; init; }

    /// <summary>Age of the oldest change that is not stored; null when all is.</summary>
    public required double? UnsavedSeconds { get; init; }

    public required long ChangedAtStep { get; init; }

    /// <summary>Scores of the last half hour, a byte a column.</summary>
    public byte[] Strip { get; init; } = [];

    /// <summary>Whether the filter's text is part of the name or method, or begins the level.</summary>
    public bool Matches(string filter) =>
        filter.Length == 0
        || Name.Contains(filter, StringComparison.OrdinalIgnoreCase)
        || Method.Contains(filter, StringComparison.OrdinalIgnoreCase)
        || Level.StartsWith(filter, StringComparison.OrdinalIgnoreCase);
}

/// <summary>A page of the list.</summary>
internal sealed record StreamRows(int Total, IReadOnlyList<StreamRow> Streams);

/// <summary>All that is known of one stream.</summary>
internal sealed record StreamDetail : StreamRow
{
    [SetsRequiredMembers]
    public StreamDetail(StreamRow row)
        : base(row)
    {
        (Sites, Classes, Events) = ([], [], []);
    }

    public required IReadOnlyList<SiteView> Sites { get; init; }

    public required IReadOnlyList<ClassView> Classes { get; init; }

    /// <summary>Weight of test statistics, 0 to 1; null where the method has no such mix.</summary>
    public required double? TestWeight { get; init; }

    /// <summary>How evenly frames fall on the statistics components, 0 to 1; null without components.</summary>
    public required double? OccupancyEntropy { get; init; }

    public required long BlankFrames { get; init; }

    public required long FrozenFrames { get; init; }

    /// <summary>Newest first.</summary>
    public required IReadOnlyList<EventView> Events { get; init; }
}

internal sealed record SiteView(string Name, double Kl, double? Limit, double Wasserstein);

internal sealed record ClassView(string Label, double Share, double? Reference);

/// <summary>A level that was reached, frames that began not to be learned, or a roll-back of a collapsed state.</summary>
internal sealed record EventView(DateTimeOffset Time, string? Level, double? Score, long Step, string? NotLearned = null, long Frames = 0, bool RolledBack = false);

/// <summary>The drift of a stream by site over the last hour; bytes as <see cref="Serving.Telemetry.DriftHistory"/> says.</summary>
internal sealed record DriftStrip(IReadOnlyList<string> Sites, int Columns, double ColumnSeconds, byte[] Data, byte[] Scores);

/// <summary>The scores of all streams over the last hour, worst first; past the rows asked for, each row is the worst of several.</summary>
internal sealed record FleetStrip(int Total, int Rows, int Columns, double ColumnSeconds, IReadOnlyList<string> Names, byte[] Data);
