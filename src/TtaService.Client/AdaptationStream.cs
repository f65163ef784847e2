using System.Security.Cryptography;
using Google.Protobuf.WellKnownTypes;
using Grpc.Core;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>One camera's stream: sends steps, answers them in order, and keeps the stream through broken connections.</summary>
/// <remarks>
/// Steps carry sequence numbers. When the connection breaks, the stream is opened again and every step without an answer is sent again; the server
/// answers those that it had committed without adapting twice. Safe to use from several threads; steps run in the order of the calls to
/// <see cref="StepAsync"/>. Use a channel (a connection) per camera where many cameras share a process, so that they do not stall together, and
/// set <c>SocketsHttpHandler.KeepAlivePingDelay</c>: a network that is lost in silence is noticed by its pings only.
/// </remarks>
/// <example><code>
/// using var channel = GrpcChannel.ForAddress("http://localhost:8001");
/// await using var camera = await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), new OpenStream { Stream = "gate-7", Model = "fashion-mnist" });
/// var reply = await camera.StepAsync([new Frame { Encoded = ByteString.CopyFrom(jpeg) }]);
/// Console.WriteLine(reply.Predictions[0].Top[0].Label);
/// </code></example>
public sealed class AdaptationStream : IAsyncDisposable
{
    /// <summary>The header of a call that names its stream, for load balancers that hash on it: a stream then stays with the replica that has its state.</summary>
    public const string StreamHeader = "x-tta-stream";

    private static readonly TimeSpan GracefulClose = TimeSpan.FromSeconds(5);
    private readonly AdaptationService.AdaptationServiceClient _client;
    private readonly OpenStream _open;
    private readonly AdaptationStreamOptions _options;
    private readonly Metadata _headers = [];
    private readonly Lock _gate = new();
    private readonly LinkedList<Unanswered> _unanswered = new();
    private readonly SemaphoreSlim _news = new(0, 1);
    private readonly TaskCompletionSource<StreamOpened> _firstOpened = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private readonly CancellationTokenSource _closed = new();
    private LinkedListNode<Unanswered>? _nextToSend;
    private ulong _lastSequence;
    private bool _progressed;
    private bool _isOpen;
    private bool _closing;
    private Exception? _failure;
    private Exception? _sendFailure;
    private Task _running = Task.CompletedTask;

    private AdaptationStream(CallInvoker invoker, OpenStream open, AdaptationStreamOptions options)
    {
        _client = new AdaptationService.AdaptationServiceClient(invoker);
        _open = open.Clone();
        _options = options;
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

    /// <summary>Opens a stream.</summary>
    /// <param name="invoker">The connection, for example <c>GrpcChannel.CreateCallInvoker()</c>.</param>
    /// <param name="open">Which stream, and how. Its resume policy counts for the first opening only.</param>
    /// <param name="options">How to reconnect; null for the defaults.</param>
    /// <param name="cancel">Gives up the opening.</param>
    /// <exception cref="RpcException">The server refused the stream, or could not be reached in <see cref="AdaptationStreamOptions.MaxAttempts"/> attempts.</exception>
    public static async Task<AdaptationStream> OpenAsync(CallInvoker invoker, OpenStream open, AdaptationStreamOptions? options = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(invoker);
        ArgumentNullException.ThrowIfNull(open);
        var stream = new AdaptationStream(invoker, open, options ?? new AdaptationStreamOptions());
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
    /// <param name="cancel">Ends the wait, not the step.</param>
    /// <exception cref="StepFailedException">The server refused or failed this step; the stream goes on.</exception>
    /// <exception cref="RpcException">The stream has ended: it was taken over or deleted, or the server stays out of reach.</exception>
    /// <exception cref="InvalidOperationException"><see cref="AdaptationStreamOptions.MaxUnanswered"/> steps wait for their answer already.</exception>
    public Task<StepReply> StepAsync(IEnumerable<Frame> frames, bool? freeze = null, TimeSpan? timeout = null, CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(frames);
        var step = new StepRequest { Frames = { frames } };
        if (freeze is { } frozen)
        {
            step.Freeze = frozen;
        }

        if (timeout is { } limit)
        {
            step.Timeout = Duration.FromTimeSpan(limit);
        }

        var unanswered = new Unanswered(step);
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closing, this);
            if (_failure is { } failure)
            {
                return Task.FromException<StepReply>(failure);
            }

            if (_unanswered.Count >= _options.MaxUnanswered)
            {
                throw new InvalidOperationException($"{_unanswered.Count} steps of stream '{_open.Stream}' wait for their answer already, the limit is {_options.MaxUnanswered} (AdaptationStreamOptions.MaxUnanswered); await earlier ones, or leave frames out");
            }

            step.Sequence = ++_lastSequence;
            var place = _unanswered.AddLast(unanswered);
            _nextToSend ??= place;
            Wake();
        }

        return unanswered.Reply.Task.WaitAsync(cancel);
    }

    /// <summary>Closes the stream's call; the stream itself stays on the server. Steps without an answer fail. Idempotent.</summary>
    public async ValueTask DisposeAsync()
    {
        bool idle;
        bool again;
        lock (_gate)
        {
            again = _closing;
            _closing = true;
            idle = _unanswered.Count == 0 && _isOpen;
            if (!again)
            {
                Wake();
            }
        }

        if (again)
        {
            await _running.ConfigureAwait(false);
            return;
        }

        if (idle)
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
        _news.Dispose();
    }

    private async Task RunAsync()
    {
        var attempt = 0;
        while (true)
        {
            try
            {
                using var ending = CancellationTokenSource.CreateLinkedTokenSource(_closed.Token);
                using var call = _client.StreamInfer(_headers, cancellationToken: ending.Token);
                await OpenCallAsync(call).ConfigureAwait(false);
                var opened = _options.Clock.GetTimestamp();
                try
                {
                    await ExchangeAsync(call, ending).ConfigureAwait(false);
                }
                finally
                {
                    // An opening that gets nowhere is an attempt, too: a step that breaks every connection must not be sent for ever.
                    attempt = _progressed || _options.Clock.GetElapsedTime(opened) > _options.MaxDelay ? 0 : attempt;
                }

                Fail(new ObjectDisposedException(nameof(AdaptationStream)));
                return;
            }
            catch (RpcException ended) when (ended.MayReconnect() && !_closing && ++attempt < _options.MaxAttempts)
            {
                if (!await PauseAsync(attempt, ended.RetryDelay()).ConfigureAwait(false))
                {
                    Fail(ended);
                    return;
                }
            }
            catch (Exception ended)
            {
                Fail(ended);
                return;
            }
        }
    }

    private async Task OpenCallAsync(AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> call)
    {
        try
        {
            await call.RequestStream.WriteAsync(new StreamInferRequest { Open = _open }).ConfigureAwait(false);
        }
        catch (Exception broken) when (IsBroken(broken))
        {
            // The reading below tells the call's status.
        }

        if (!await OpensAsync(call.ResponseStream).ConfigureAwait(false) || call.ResponseStream.Current.Opened is not { } opened)
        {
            throw new RpcException(new Grpc.Core.Status(StatusCode.Internal, "the server's first message was not that the stream is open"));
        }

        lock (_gate)
        {
            Opened = opened;
            (_isOpen, _progressed) = (true, false);
            for (var sent = _unanswered.First; sent != _nextToSend && sent is not null; sent = sent.Next)
            {
                Resent++;
            }

            _nextToSend = _unanswered.First;
            if (_firstOpened.Task.IsCompleted)
            {
                Reconnections++;
                return;
            }

            _lastSequence = opened.LastSequence;
        }

        // Only the first opening creates or resets; a later one continues what that began.
        _open.ResumePolicy = ResumePolicy.Unspecified;
        _firstOpened.TrySetResult(opened);
    }

    private static async Task<bool> OpensAsync(IAsyncStreamReader<StreamInferReply> replies)
    {
        try
        {
            return await replies.MoveNext(CancellationToken.None).ConfigureAwait(false);
        }
        catch (RpcException late) when (late.StatusCode == StatusCode.DeadlineExceeded)
        {
            // The call has no deadline: the server has waited for the opening message, which something on the way holds back. A new call may pass.
            throw new RpcException(new Grpc.Core.Status(StatusCode.Unavailable, late.Status.Detail, late));
        }
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
            lock (_gate)
            {
                _isOpen = false;
            }

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
                StepRequest? step;
                lock (_gate)
                {
                    step = _nextToSend?.Value.Step;
                    _nextToSend = _nextToSend?.Next;
                    if (step is null && _closing)
                    {
                        break;
                    }
                }

                if (step is not null)
                {
                    await requests.WriteAsync(new StreamInferRequest { Step = step }, cancel).ConfigureAwait(false);
                }
                else
                {
                    await _news.WaitAsync(cancel).ConfigureAwait(false);
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
    private static bool IsBroken(Exception thrown) => thrown is RpcException or OperationCanceledException or InvalidOperationException or IOException;

    private void Take(StreamInferReply reply)
    {
        var sequence = reply.Step?.Sequence ?? reply.Error?.Sequence ?? 0;
        Unanswered? answered = null;
        lock (_gate)
        {
            if (_unanswered.First is { } first && first.Value.Step.Sequence == sequence)
            {
                answered = first.Value;
                _progressed = true;
                _unanswered.RemoveFirst();
            }
        }

        if (reply.Error is { } error)
        {
            answered?.Reply.TrySetException(new StepFailedException(error));
        }
        else if (reply.Step is { } step)
        {
            answered?.Reply.TrySetResult(step);
        }
    }

    private async Task<bool> PauseAsync(int attempt, TimeSpan asked)
    {
        var delay = Math.Min(_options.FirstDelay.TotalMilliseconds * Math.Pow(2, attempt - 1), _options.MaxDelay.TotalMilliseconds);
        // Cameras that lost one server must not come back in step.
        delay *= 0.5 + (RandomNumberGenerator.GetInt32(1000) / 1000.0);
        try
        {
            await Task.Delay(TimeSpan.FromMilliseconds(Math.Max(delay, asked.TotalMilliseconds)), _options.Clock, _closed.Token).ConfigureAwait(false);
            return true;
        }
        catch (OperationCanceledException)
        {
            return false;
        }
    }

    private void Fail(Exception failure)
    {
        List<Unanswered> left;
        lock (_gate)
        {
            _failure = failure;
            left = [.. _unanswered];
            _unanswered.Clear();
            _nextToSend = null;
        }

        _firstOpened.TrySetException(failure);
        foreach (var unanswered in left)
        {
            unanswered.Reply.TrySetException(failure);
        }
    }

    private void Wake()
    {
        if (_news.CurrentCount == 0)
        {
            _news.Release();
        }
    }

    private sealed class Unanswered(StepRequest step)
    {
        public StepRequest Step { get; } = step;

        public TaskCompletionSource<StepReply> Reply { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);
    }
}
