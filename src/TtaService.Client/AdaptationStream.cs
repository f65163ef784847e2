using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>One camera's stream: sends steps, answers them in order, and keeps the stream through broken connections.</summary>
/// <remarks>
/// Steps carry sequence numbers. When the connection breaks, the stream is opened again, for as long as it takes unless the options limit it, and every step
/// without an answer is sent again; the server answers those that it had committed without adapting twice. <see cref="AdaptationStreamOptions.OnEvent"/> tells
/// of it, and of a state that did not survive. Safe to use from several threads; steps run in the order of the calls to <see cref="StepAsync"/>.
/// <see cref="TtaClient"/> gives each stream a connection of its own, with pings that notice a network that is lost in silence and a reconnection that keeps up
/// with the options; a channel of your own needs both settings (<c>SocketsHttpHandler.KeepAlivePingDelay</c>, <c>GrpcChannelOptions.MaxReconnectBackoff</c>, two
/// minutes by default).
/// </remarks>
/// <example><code>
/// using var client = new TtaClient(new TtaClientOptions { Address = new Uri("http://localhost:8001") });
/// await using var camera = await client.OpenAsync(new OpenStream { Stream = "gate-7", Model = "fashion-mnist" });
/// await foreach (var step in camera.StepsAsync(FrameSource.Folder("frames")))
/// {
///     Console.WriteLine($"{step.Frames[0].Name}: {step.Reply?.Predictions[0].Top[0].Label ?? step.Error?.Message}");
/// }
/// </code></example>
public sealed class AdaptationStream : IAsyncDisposable
{
    /// <summary>The header of a call that names its stream, for load balancers that hash on it: a stream then stays with the replica that has its state.</summary>
    public const string StreamHeader = "x-tta-stream";

    private static readonly TimeSpan GracefulClose = TimeSpan.FromSeconds(5);
    private readonly AdaptationService.AdaptationServiceClient _client;
    private readonly OpenStream _open;
    private readonly AdaptationStreamOptions _options;
    private readonly IDisposable? _connection;
    private readonly Metadata _headers = [];
    private readonly StepQueue _queue;
    private readonly StateContinuity _continuity;
    private readonly TaskCompletionSource<StreamOpened> _firstOpened = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _closed = new();
    private volatile bool _isOpen;
    private Exception? _sendFailure;
    private Task _running = Task.CompletedTask;

    private AdaptationStream(CallInvoker invoker, OpenStream open, AdaptationStreamOptions options, IDisposable? connection)
    {
        _client = new AdaptationService.AdaptationServiceClient(invoker);
        _open = open.Clone();
        (_options, _connection) = (options, connection);
        (_queue, _continuity) = (new StepQueue(open.Stream, options), new StateContinuity(open.Stream));
        // A name that is no header is none that the server takes; it says so itself.
        if (open.Stream.All(char.IsAscii) && !open.Stream.Any(char.IsControl))
        {
            _headers.Add(StreamHeader, open.Stream);
        }
    }

    /// <summary>What the server said when the stream was last opened: method, where the state comes from, warnings.</summary>
    public StreamOpened Opened { get; private set; } = new();

    /// <summary>How often the stream was opened again after its connection broke.</summary>
    public int Reconnections { get; private set; }

    /// <summary>Steps that were sent again after a connection broke.</summary>
    public int Resent { get; private set; }

    private bool WasOpen => _firstOpened.Task.IsCompletedSuccessfully;

    /// <summary>Opens a stream.</summary>
    /// <param name="invoker">The connection, for example <c>GrpcChannel.CreateCallInvoker()</c>.</param>
    /// <param name="open">Which stream, and how. Its resume policy counts for the first opening only.</param>
    /// <param name="options">How to reconnect; null for the defaults.</param>
    /// <param name="cancel">Gives up the opening; without it, and with the default options, it waits for a server for as long as it takes.</param>
    /// <exception cref="RpcException">The server refused the stream, or could not be reached within the options' limits.</exception>
    public static Task<AdaptationStream> OpenAsync(CallInvoker invoker, OpenStream open, AdaptationStreamOptions? options = null, CancellationToken cancel = default) =>
        OpenAsync(invoker, open, options, connection: null, cancel);

    /// <summary>Opens a stream that disposes its connection with itself.</summary>
    internal static async Task<AdaptationStream> OpenAsync(
        CallInvoker invoker, OpenStream open, AdaptationStreamOptions? options, IDisposable? connection, CancellationToken cancel)
    {
        ArgumentNullException.ThrowIfNull(invoker);
        ArgumentNullException.ThrowIfNull(open);
        var stream = new AdaptationStream(invoker, open, options ?? new AdaptationStreamOptions(), connection);
        stream._running = stream.RunAsync();
        try
        {
            await stream._firstOpened.Task.WaitAsync(cancel).ConfigureAwait(false);
        }
        catch
        {
            await stream.DisposeAsync().ConfigureAwait(false);
            throw;
        }

        return stream;
    }

    /// <summary>Sends frames as one step and waits for the answer.</summary>
    /// <param name="frames">At least one; normalized together.</param>
    /// <param name="freeze">Use the state without updating it; null for the stream's setting.</param>
    /// <param name="timeout">From the server's receipt; a step that has not begun by then never runs. Null for none.</param>
    /// <param name="cancel">Ends the wait. A step that is not on its way then is never sent; one that is may still run.</param>
    /// <exception cref="StepFailedException">The server refused or failed this step; the stream goes on.</exception>
    /// <exception cref="RpcException">The stream has ended: it was taken over or deleted, or the server stayed out of reach for longer than the options allow.</exception>
    /// <exception cref="InvalidOperationException"><see cref="AdaptationStreamOptions.MaxUnanswered"/> steps wait for their answer already.</exception>
    public Task<StepReply> StepAsync(IEnumerable<Frame> frames, bool? freeze = null, TimeSpan? timeout = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(frames);
        var request = new StepRequest { Frames = { frames } };
        if (freeze is { } frozen)
        {
            request.Freeze = frozen;
        }

        if (timeout is { } limit)
        {
            request.Timeout = Duration.FromTimeSpan(limit);
        }

        cancel.ThrowIfCancellationRequested();
        var step = _queue.Add(request);
        return ClientActivities.Source.HasListeners() || cancel.CanBeCanceled ? WaitAsync(step, ClientActivities.Step(_open, request), cancel) : step.Reply.Task;
    }

    /// <summary>Sends a source's frames and gives the answers in their order; reads ahead no further than the window, so that a slow server slows the source.</summary>
    /// <param name="frames">Where frames come from, for example <see cref="FrameSource"/>.</param>
    /// <param name="framesPerStep">Frames that are normalized together; the last step may hold fewer.</param>
    /// <param name="window">Steps on their way at a time, at most <see cref="AdaptationStreamOptions.MaxUnanswered"/>; 0 for as many as the server says it takes.</param>
    /// <param name="cancel">Ends the sending and the waits.</param>
    /// <exception cref="RpcException">The stream has ended; a step that fails alone is a value with its <see cref="StreamedStep.Error"/>.</exception>
    public async IAsyncEnumerable<StreamedStep> StepsAsync(
        IAsyncEnumerable<SourceFrame> frames, int framesPerStep = 1, int window = 0, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(frames);
        ArgumentOutOfRangeException.ThrowIfLessThan(framesPerStep, 1);
        ArgumentOutOfRangeException.ThrowIfNegative(window);
        var places = Math.Clamp(window == 0 ? Opened.MaxPendingSteps : window, 1, _options.MaxUnanswered);
        using var room = new SemaphoreSlim(places);
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var sent = Channel.CreateUnbounded<SentStep>(new UnboundedChannelOptions { SingleReader = true, SingleWriter = true });
        var sending = SendAsync(frames, framesPerStep, room, sent.Writer, ending.Token);
        try
        {
            await foreach (var step in sent.Reader.ReadAllAsync(cancel).ConfigureAwait(false))
            {
                StreamedStep answered;
                try
                {
                    var reply = await step.Reply.ConfigureAwait(false);
                    answered = new StreamedStep(step.Frames, reply, null, _options.Clock.GetElapsedTime(step.At));
                }
                catch (StepFailedException failed)
                {
                    answered = new StreamedStep(step.Frames, null, failed.Error, _options.Clock.GetElapsedTime(step.At));
                }

                room.Release();
                yield return answered;
            }
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await sending.ConfigureAwait(false);
        }
    }

    /// <summary>Closes the stream's call; the stream itself stays on the server. Steps without an answer fail. Idempotent.</summary>
    public async ValueTask DisposeAsync()
    {
        var (again, isEmpty) = _queue.Close();
        if (again)
        {
            await _running.ConfigureAwait(false);
            return;
        }

        if (isEmpty && _isOpen)
        {
            // The server ends a call that has said all; one that does not is left.
            _closed.CancelAfter(GracefulClose);
        }
        else
        {
            await _closed.CancelAsync().ConfigureAwait(false);
        }

        await _running.ConfigureAwait(false);
        _closed.Dispose();
        _queue.Dispose();
        _connection?.Dispose();
    }

    private async Task<StepReply> WaitAsync(Unanswered step, Activity? activity, CancellationToken cancel)
    {
        using (activity)
        {
            try
            {
                var reply = await step.Reply.Task.WaitAsync(cancel).ConfigureAwait(false);
                ClientActivities.Answered(activity, reply);
                return reply;
            }
            catch (Exception failed)
            {
                if (failed is OperationCanceledException && cancel.IsCancellationRequested)
                {
                    _queue.Withdraw(step);
                }

                ClientActivities.Failed(activity, failed);
                throw;
            }
        }
    }

    private async Task SendAsync(IAsyncEnumerable<SourceFrame> frames, int framesPerStep, SemaphoreSlim room, ChannelWriter<SentStep> sent, CancellationToken cancel)
    {
        try
        {
            var step = new List<SourceFrame>(framesPerStep);
            await foreach (var frame in frames.WithCancellation(cancel).ConfigureAwait(false))
            {
                step.Add(frame);
                if (step.Count == framesPerStep)
                {
                    await SendOneAsync(step).ConfigureAwait(false);
                    step = new List<SourceFrame>(framesPerStep);
                }
            }

            if (step.Count > 0)
            {
                await SendOneAsync(step).ConfigureAwait(false);
            }

            sent.Complete();
        }
        catch (Exception ended)
        {
            // The reader of the answers meets it after those that came before.
            sent.Complete(ended);
        }

        async Task SendOneAsync(List<SourceFrame> step)
        {
            await room.WaitAsync(cancel).ConfigureAwait(false);
            var at = _options.Clock.GetTimestamp();
            sent.TryWrite(new SentStep(step, StepAsync(step.Select(frame => frame.Frame), cancel: cancel), at));
        }
    }

    private async Task RunAsync()
    {
        var backoff = new Backoff(_options);
        while (true)
        {
            RpcException broken;
            try
            {
                using var ending = CancellationTokenSource.CreateLinkedTokenSource(_closed.Token);
                using var call = _client.StreamInfer(_headers, cancellationToken: ending.Token);
                await OpenCallAsync(call, ending, backoff).ConfigureAwait(false);
                var opened = _options.Clock.GetTimestamp();
                var why = "the stream was closed";
                try
                {
                    await ExchangeAsync(call, ending).ConfigureAwait(false);
                }
                catch (RpcException ended)
                {
                    why = ended.InWords();
                    throw;
                }
                finally
                {
                    // An opening that gets nowhere is an attempt, too: a step that breaks every connection must not be sent without a pause.
                    if (_queue.End(why) || _options.Clock.GetElapsedTime(opened) > _options.MaxDelay)
                    {
                        backoff.Succeeded();
                    }
                }

                _queue.Fail(new ObjectDisposedException(nameof(AdaptationStream)));
                return;
            }
            catch (RpcException ended) when (!_queue.IsClosing && ended.MayReconnect(WasOpen))
            {
                // Counted here and not in the filter, which runs before the inner finally forgets earlier failures.
                if (!backoff.Fail(WasOpen))
                {
                    GiveUp(ended, backoff.Failed);
                    return;
                }

                broken = ended;
            }
            catch (Exception ended)
            {
                GiveUp(ended, backoff.Failed);
                return;
            }

            try
            {
                var delay = backoff.Delay(broken.RetryDelay());
                _options.OnEvent?.Invoke(new StreamDisconnected(_open.Stream, backoff.Failed, delay, broken));
                await Task.Delay(delay, _options.Clock, _closed.Token).ConfigureAwait(false);
            }
            catch (Exception ended)
            {
                GiveUp(ended is OperationCanceledException ? broken : ended, backoff.Failed);
                return;
            }
        }
    }

    private async Task OpenCallAsync(AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> call, CancellationTokenSource ending, Backoff backoff)
    {
        using var patience = new CancellationTokenSource(_options.OpenTimeout, _options.Clock);
        await using var registration = patience.Token.Register(ending.Cancel);
        try
        {
            await call.RequestStream.WriteAsync(new StreamInferRequest { Open = _open }).ConfigureAwait(false);
        }
        catch (Exception broken) when (IsBroken(broken))
        {
            // The reading below tells the call's status.
        }

        bool any;
        try
        {
            any = await call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false);
        }
        catch (RpcException late) when (late.StatusCode == StatusCode.DeadlineExceeded
            || (late.StatusCode == StatusCode.Cancelled && patience.IsCancellationRequested && !_closed.IsCancellationRequested))
        {
            // Something on the way holds back the opening, or the server its answer. A new call may pass.
            var detail = late.StatusCode == StatusCode.DeadlineExceeded
                ? late.Status.Detail
                : $"the server did not open the stream within {_options.OpenTimeout} (AdaptationStreamOptions.OpenTimeout)";
            throw new RpcException(new Grpc.Core.Status(StatusCode.Unavailable, detail, late));
        }

        if (!any || call.ResponseStream.Current.Opened is not { } opened)
        {
            throw new RpcException(new Grpc.Core.Status(StatusCode.Internal, "the server's first message was not that the stream is open"));
        }

        Begin(opened, backoff);
    }

    private void Begin(StreamOpened opened, Backoff backoff)
    {
        var first = !WasOpen;
        Opened = opened;
        var resent = _queue.Begin(opened.LastSequence);
        var changed = _continuity.Take(opened, first);
        _isOpen = true;
        if (first)
        {
            // Only the first opening creates or resets; a later one continues what that began.
            _open.ResumePolicy = ResumePolicy.Unspecified;
            _firstOpened.TrySetResult(opened);
            return;
        }

        Reconnections++;
        Resent += resent;
        _options.OnEvent?.Invoke(new StreamReconnected(_open.Stream, Math.Max(1, backoff.Failed), backoff.Away, resent, opened));
        Tell(changed);
    }

    private async Task ExchangeAsync(AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> call, CancellationTokenSource ending)
    {
        using var sending = CancellationTokenSource.CreateLinkedTokenSource(_closed.Token);
        var sender = SendAsync(call.RequestStream, ending, sending.Token);
        try
        {
            while (await call.ResponseStream.MoveNext(CancellationToken.None).ConfigureAwait(false))
            {
                Take(call.ResponseStream.Current);
            }
        }
        catch (RpcException ended) when (ended.StatusCode == StatusCode.Cancelled && ending.IsCancellationRequested && !_closed.IsCancellationRequested)
        {
            throw new RpcException(new Grpc.Core.Status(StatusCode.Unavailable, $"a step could not be sent: {_sendFailure?.Message}", _sendFailure));
        }
        finally
        {
            _isOpen = false;
            await sending.CancelAsync().ConfigureAwait(false);
            await sender.ConfigureAwait(false);
        }
    }

    private async Task SendAsync(IClientStreamWriter<StreamInferRequest> requests, CancellationTokenSource ending, CancellationToken cancel)
    {
        try
        {
            while (true)
            {
                if (_queue.Next(out var finished) is { } step)
                {
                    await requests.WriteAsync(new StreamInferRequest { Step = step }, cancel).ConfigureAwait(false);
                }
                else if (finished)
                {
                    break;
                }
                else
                {
                    await _queue.NewsAsync(cancel).ConfigureAwait(false);
                }
            }

            await requests.CompleteAsync().ConfigureAwait(false);
        }
        catch (Exception broken) when (IsBroken(broken))
        {
            // The reader of the replies meets the same end and knows its status. Should it not, nothing more would come: the call ends.
            if (!cancel.IsCancellationRequested)
            {
                _sendFailure = broken;
                ending.CancelAfter(GracefulClose);
            }
        }
    }

    // What writing to a call throws: the call's end, or the transport's.
    private static bool IsBroken(Exception thrown) => thrown is RpcException or OperationCanceledException or InvalidOperationException or IOException or HttpRequestException;

    private void Take(StreamInferReply reply)
    {
        if (reply.Error is { } error)
        {
            _queue.Answered(error.Sequence)?.Reply.TrySetException(new StepFailedException(error));
        }
        else if (reply.Step is { } step)
        {
            Tell(_continuity.Take(step));
            _queue.Answered(step.Sequence)?.Reply.TrySetResult(step);
        }
    }

    private void Tell(StreamEvent? happened)
    {
        if (happened is not null)
        {
            _options.OnEvent?.Invoke(happened);
        }
    }

    private void GiveUp(Exception why, int attempts)
    {
        var byUser = _queue.IsClosing;
        _queue.Fail(why);
        try
        {
            if (!byUser)
            {
                Tell(new StreamGaveUp(_open.Stream, attempts, why));
            }
        }
        catch (Exception thrown)
        {
            // The stream has ended in any case; who opens it hears of both.
            why = new AggregateException(why, thrown);
        }

        _firstOpened.TrySetException(why);
    }

    private readonly record struct SentStep(IReadOnlyList<SourceFrame> Frames, Task<StepReply> Reply, long At);
}
