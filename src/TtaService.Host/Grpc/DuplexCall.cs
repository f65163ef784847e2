using System.Runtime.ExceptionServices;
using System.Security.Cryptography;
using System.Threading.Channels;
using Google.Protobuf;
using Grpc.Core;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>One StreamInfer call: reads steps ahead up to a limit, answers them in order, and ends for one of the reasons a call ends.</summary>
internal sealed class DuplexCall(
    IAsyncStreamReader<StreamInferRequest> requests,
    IServerStreamWriter<StreamInferReply> replies,
    ServerCallContext context,
    IStreamStepping streams,
    StreamsOptions options,
    TimeProvider clock,
    CancellationToken stopping) : IDisposable
{
    private readonly CancellationTokenSource _aged = new();

    public async Task RunAsync()
    {
        await using var ageTimer = options.MaxCallAge > TimeSpan.Zero
            ? clock.CreateTimer(
                static source => ((CancellationTokenSource)source!).Cancel(),
                _aged,
                options.MaxCallAge * (1 - (RandomNumberGenerator.GetInt32(1000) * 0.2 / 1000)),
                Timeout.InfiniteTimeSpan)
            : null;
        var open = await ReadOpenAsync().ConfigureAwait(false);
        var key = StreamKey.Checked(open.Stream, "open.stream");
        var content = StreamRequests.Read(open.Reply);
        using var stream = await OpenAsync(StreamRequests.Read(open, key) with { Client = StreamRequests.ClientOf(context) }).ConfigureAwait(false);
        var opened = await stream.SettledAsync(context.CancellationToken).ConfigureAwait(false);
        await replies.WriteAsync(new StreamInferReply { Opened = Replies.Opened(opened) }).ConfigureAwait(false);
        await PumpAsync(stream, content, opened.Origin).ConfigureAwait(false);
    }

    public void Dispose() => _aged.Dispose();

    private async Task<OpenStream> ReadOpenAsync()
    {
        using var reading = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, stopping);
        try
        {
            if (!await requests.MoveNext(reading.Token).ConfigureAwait(false))
            {
                throw new FailureException(Failure.Invalid("OPEN_MISSING", "open", "the call ended without a message; the first message opens the stream"));
            }
        }
        catch (IOException gone) when (IsInterruption(gone))
        {
            throw new FailureException(new Failure(FailureKind.Cancelled, "CALL_BROKEN", "the client left before it opened a stream"));
        }
        catch (Exception interrupted) when (IsInterruption(interrupted))
        {
            context.CancellationToken.ThrowIfCancellationRequested();
            throw new FailureException(Failure.Stopping());
        }

        return requests.Current.Open ?? throw new FailureException(Failure.Invalid("OPEN_MISSING", "open", "the first message must open the stream; steps come after it"));
    }

    private async Task<IOpenStream> OpenAsync(StreamRequest request)
    {
        using var leaving = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, stopping);
        try
        {
            return (await streams.OpenAsync(request, leaving.Token).ConfigureAwait(false)).OrThrow();
        }
        catch (OperationCanceledException) when (stopping.IsCancellationRequested && !context.CancellationToken.IsCancellationRequested)
        {
            throw new FailureException(Failure.Stopping());
        }
    }

    private async Task PumpAsync(IOpenStream stream, ReplyContent content, Serving.Streams.StateOrigin origin)
    {
        // Ends the reading; steps that were read are still answered unless the client or the stream is gone.
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, stopping, _aged.Token, stream.Lost);
        using var abandoned = CancellationTokenSource.CreateLinkedTokenSource(context.CancellationToken, stream.Lost);
        using var slots = new SemaphoreSlim(options.MaxPendingSteps);
        var pending = Channel.CreateUnbounded<PendingReply>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var writing = WriteAsync(pending.Reader, slots, origin, ending);
        Exception? refused = null;
        try
        {
            while (await requests.MoveNext(ending.Token).ConfigureAwait(false))
            {
                var step = requests.Current.Step
                    ?? throw new FailureException(Failure.Invalid("STEP_MISSING", "step", "every message after the first must be a step; a call opens one stream, once"));
                await slots.WaitAsync(ending.Token).ConfigureAwait(false);
                pending.Writer.TryWrite(new PendingReply(step.Sequence, stream.StepAsync(StreamRequests.Read(step, content, abandoned.Token))));
            }
        }
        catch (Exception interrupted) when (IsInterruption(interrupted))
        {
            // Why is told below.
        }
        catch (Exception failure)
        {
            refused = failure;
        }
        finally
        {
            pending.Writer.Complete();
        }

        await writing.ConfigureAwait(false);
        if (stopping.IsCancellationRequested || _aged.IsCancellationRequested)
        {
            // Before the client hears of it: whoever opens the stream next finds all that it learned.
            await stream.HandOverAsync(Ended()).ConfigureAwait(false);
        }

        context.CancellationToken.ThrowIfCancellationRequested();
        if (WhyEnded(stream) is { } why)
        {
            throw new FailureException(why);
        }

        if (refused is not null)
        {
            ExceptionDispatchInfo.Throw(refused);
        }
    }

    // An unreadable message is an IOException, too.
    private static bool IsInterruption(Exception thrown) =>
        thrown is OperationCanceledException or RpcException { StatusCode: StatusCode.Cancelled } or (IOException and not InvalidProtocolBufferException);

    private Failure? WhyEnded(IOpenStream stream) => stream.Lost.IsCancellationRequested ? stream.WhyLost
        : stopping.IsCancellationRequested || _aged.IsCancellationRequested ? Ended()
        : null;

    private Failure Ended() => stopping.IsCancellationRequested
        ? Failure.Stopping()
        : new Failure(
            FailureKind.Unavailable,
            "CALL_TOO_OLD",
            $"the call is as old as calls may get (Streams:MaxCallAge is {options.MaxCallAge}); open the stream again and resend what was not answered");

    private async Task WriteAsync(ChannelReader<PendingReply> pending, SemaphoreSlim slots, Serving.Streams.StateOrigin origin, CancellationTokenSource ending)
    {
        try
        {
            await foreach (var (sequence, outcome) in pending.ReadAllAsync().ConfigureAwait(false))
            {
                var ended = await outcome.ConfigureAwait(false);
                var reply = ended.Answer is { } answer
                    ? new StreamInferReply { Step = Replies.Step(sequence, answer, origin) }
                    : new StreamInferReply { Error = ended.Failure!.ToStepError(sequence) };
                await replies.WriteAsync(reply).WaitAsync(options.ReplyTimeout, clock, context.CancellationToken).ConfigureAwait(false);
                slots.Release();
            }
        }
        catch (TimeoutException)
        {
            // Its window is full, so no status would reach it either.
            context.GetHttpContext().Abort();
        }
        catch (Exception gone) when (gone is OperationCanceledException or IOException or InvalidOperationException)
        {
            // Nobody is there to answer.
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
        }
    }

    private readonly record struct PendingReply(ulong Sequence, Task<StepOutcome> Outcome);
}
