using Grpc.Core;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>What happened to a stream besides the answers to its steps (see <see cref="AdaptationStreamOptions.OnEvent"/>).</summary>
/// <param name="Stream">The stream's name.</param>
public abstract record StreamEvent(string Stream);

/// <summary>The server is out of reach, or ended the call; another attempt follows.</summary>
/// <param name="Stream">The stream's name.</param>
/// <param name="Attempt">Failed attempts in a row, from 1.</param>
/// <param name="RetryIn">The wait before the next one.</param>
/// <param name="Cause">What ended the call or the attempt.</param>
public sealed record StreamDisconnected(string Stream, int Attempt, TimeSpan RetryIn, RpcException Cause) : StreamEvent(Stream)
{
    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant(
        $"stream '{Stream}': no connection ({Cause.InWords()}); attempt {Attempt} failed, the next is in {RetryIn.TotalSeconds:0.0} s");
}

/// <summary>The stream is open again and every step without an answer is being sent again. What became of the state follows as an event of its own, if it is not as
/// it was.</summary>
/// <param name="Stream">The stream's name.</param>
/// <param name="Attempts">Attempts that it took.</param>
/// <param name="Away">Since the connection broke.</param>
/// <param name="Resent">Steps that had been sent before and are sent again.</param>
/// <param name="Opened">What the server says of the stream now.</param>
public sealed record StreamReconnected(string Stream, int Attempts, TimeSpan Away, int Resent, StreamOpened Opened) : StreamEvent(Stream)
{
    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant(
        $"stream '{Stream}': connected again after {Away.TotalSeconds:0.0} s and {Attempts} attempts, {Resent} steps sent again");
}

/// <summary>The state is gone: the stream began anew where it should have gone on.</summary>
/// <param name="Stream">The stream's name.</param>
/// <param name="Steps">Committed steps that the state had.</param>
/// <param name="Why">The server's warnings, or what is known.</param>
public sealed record StateLost(string Stream, long Steps, string Why) : StreamEvent(Stream)
{
    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant($"stream '{Stream}': its state of {Steps} steps is lost, it begins anew ({Why})");
}

/// <summary>The state is an earlier one: a checkpoint from before the latest steps.</summary>
/// <param name="Stream">The stream's name.</param>
/// <param name="Steps">Committed steps that it lacks.</param>
/// <param name="Step">The step that it is at.</param>
public sealed record StateRewound(string Stream, long Steps, long Step) : StreamEvent(Stream)
{
    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant($"stream '{Stream}': its state is {Steps} steps older than it was, at step {Step}");
}

/// <summary>The stream has ended and does not come back: the server refused it, another call took it, or a limit of the options was reached.</summary>
/// <param name="Stream">The stream's name.</param>
/// <param name="Attempts">Failed attempts in a row at the end, 0 when the end was final at once.</param>
/// <param name="Cause">Why; steps without an answer fail with it.</param>
public sealed record StreamGaveUp(string Stream, int Attempts, Exception Cause) : StreamEvent(Stream)
{
    /// <inheritdoc/>
    public override string ToString() => FormattableString.Invariant(
        $"stream '{Stream}': gave up after {Attempts} failed attempts: {(Cause is RpcException rpc ? rpc.InWords() : Cause.Message)}");
}
