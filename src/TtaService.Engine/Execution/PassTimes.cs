namespace TtaService.Engine.Execution;

/// <summary>Where the time of running steps went.</summary>
/// <param name="Transfer">Normalizing the frames' pixels and bringing them to the device.</param>
/// <param name="Forward">Walking the graph and reading its outputs, which waits for the device.</param>
/// <param name="Commit">Checking outputs and proposed statistics, and taking the statistics over.</param>
internal readonly record struct PassTimes(TimeSpan Transfer, TimeSpan Forward, TimeSpan Commit)
{
    /// <summary>Both together.</summary>
    public static PassTimes operator +(PassTimes a, PassTimes b) => new(a.Transfer + b.Transfer, a.Forward + b.Forward, a.Commit + b.Commit);

    /// <inheritdoc cref="op_Addition"/>
    public static PassTimes Add(PassTimes left, PassTimes right) => left + right;
}
