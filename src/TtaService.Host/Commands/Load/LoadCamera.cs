using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands.Load;

/// <summary>One camera of <c>tta load</c>: a frame is due at its time whether or not the last one was answered. Read it when it has run.</summary>
internal sealed class LoadCamera(Uri address, OpenStream open, IReadOnlyList<Frame> frames, int batch, TimeSpan period, TimeSpan phase)
{
    // It outlasts a server that is replaced, as a camera does.
    private static readonly AdaptationStreamOptions Patient = new() { FirstDelay = TimeSpan.FromMilliseconds(50), MaxDelay = TimeSpan.FromSeconds(1) };

    // Answers still to come when the time is over.
    private static readonly TimeSpan LastAnswers = TimeSpan.FromSeconds(15);

    private readonly Lock _gate = new();
    private volatile string? _trouble;
    private long _lastAnswer;
    private long _lastStep;
    private StateOrigin _origin;

    /// <summary>Whether its stream was ever open.</summary>
    public bool Opened { get; private set; }

    /// <summary>Steps that were due.</summary>
    public int Due { get; private set; }

    /// <summary>Steps that were left out because too many waited already.</summary>
    public int LeftOut { get; private set; }

    /// <summary>Steps that the server refused or failed.</summary>
    public int Failed { get; private set; }

    /// <summary>Steps that were never answered.</summary>
    public int Lost { get; private set; }

    public int Reconnections { get; private set; }

    /// <summary>Steps that were sent again after a connection broke.</summary>
    public int Resent { get; private set; }

    /// <summary>Answers that the server had kept: the step was committed, its answer had not arrived.</summary>
    public int Replayed { get; private set; }

    /// <summary>How often another process took the stream over from the store.</summary>
    public int Moved { get; private set; }

    /// <summary>How often the stream began anew.</summary>
    public int Resets { get; private set; }

    /// <summary>Committed steps that a later state did not have.</summary>
    public long ForgottenSteps { get; private set; }

    /// <summary>Steps that adapted the state twice.</summary>
    public long DoubleSteps { get; private set; }

    public TimeSpan LongestGap { get; private set; }

    public string? FirstError { get; private set; }

    /// <summary>From when each frame was due to its answer, in milliseconds.</summary>
    public List<double> Latencies { get; } = [];

    public async Task RunAsync(CancellationToken stop)
    {
        using var channel = GrpcChannel.ForAddress(address, new GrpcChannelOptions { InitialReconnectBackoff = TimeSpan.FromMilliseconds(50), MaxReconnectBackoff = TimeSpan.FromSeconds(1) });
        try
        {
            await Task.Delay(phase, stop).ConfigureAwait(false);
            var options = Patient with { OnEvent = happened => _trouble = happened is StreamDisconnected gone ? RemoteServer.Why(address, gone.Cause) : null };
            var stream = await AdaptationStream.OpenAsync(channel.CreateCallInvoker(), open, options, stop).ConfigureAwait(false);
            await using var disposal = stream.ConfigureAwait(false);
            Opened = true;
            _lastStep = stream.Opened.Age?.Steps ?? 0;
            _origin = stream.Opened.Origin;
            var answers = await SendAsync(stream, stop).ConfigureAwait(false);
            (Reconnections, Resent) = (stream.Reconnections, stream.Resent);
            // What has no answer by now fails here.
            await stream.DisposeAsync().ConfigureAwait(false);
            await answers.ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
            FirstError ??= $"{address} took no stream in all that time{(_trouble is { } why ? $": {why}" : "")}";
        }
        catch (RpcException refused)
        {
            FirstError ??= RemoteServer.Why(address, refused);
        }
    }

    private async Task<Task> SendAsync(AdaptationStream stream, CancellationToken stop)
    {
        var answers = new List<Task>();
        var last = Task.CompletedTask;
        var began = Stopwatch.GetTimestamp();
        _lastAnswer = began;
        while (true)
        {
            var wait = (period * Due) - Stopwatch.GetElapsedTime(began);
            if (wait > TimeSpan.Zero)
            {
                await Task.Delay(wait, CancellationToken.None).ConfigureAwait(false);
            }

            if (stop.IsCancellationRequested)
            {
                break;
            }

            var due = began + (long)((period * Due).TotalSeconds * Stopwatch.Frequency);
            var number = Due++;
            try
            {
                last = AnswerAsync(stream.StepAsync(Enumerable.Range(number, batch).Select(i => frames[i % frames.Count]), cancel: CancellationToken.None), due, last);
                answers.Add(last);
            }
            catch (InvalidOperationException)
            {
                LeftOut++;
            }

            answers.RemoveAll(answer => answer.IsCompleted);
        }

        var all = Task.WhenAll(answers);
        await Task.WhenAny(all, Task.Delay(LastAnswers, CancellationToken.None)).ConfigureAwait(false);
        return all;
    }

    private async Task AnswerAsync(Task<StepReply> step, long due, Task before)
    {
        try
        {
            var reply = await step.ConfigureAwait(false);
            var now = Stopwatch.GetTimestamp();
            // Replies come in order; what awaits them need not run in order.
            await before.ConfigureAwait(false);
            lock (_gate)
            {
                Take(reply, due, now);
            }
        }
        catch (StepFailedException failed)
        {
            lock (_gate)
            {
                Failed++;
                FirstError ??= failed.Message;
            }
        }
        catch (Exception ended) when (ended is RpcException or ObjectDisposedException)
        {
            lock (_gate)
            {
                Lost++;
                FirstError ??= ended.Message;
            }
        }
    }

    private void Take(StepReply reply, long due, long now)
    {
        Latencies.Add(Stopwatch.GetElapsedTime(due, now).TotalMilliseconds);
        var gap = Stopwatch.GetElapsedTime(_lastAnswer, now);
        LongestGap = gap > LongestGap ? gap : LongestGap;
        _lastAnswer = now;
        Replayed += reply.Replayed ? 1 : 0;
        if (reply.Origin == StateOrigin.Restored && _origin != StateOrigin.Restored)
        {
            Moved++;
        }

        _origin = reply.Origin;
        if (reply.Step == 1 && _lastStep > 0)
        {
            Resets++;
        }
        else if (reply.Step <= _lastStep)
        {
            ForgottenSteps += _lastStep + 1 - reply.Step;
        }
        else
        {
            DoubleSteps += reply.Step - _lastStep - 1;
        }

        _lastStep = reply.Step;
    }
}
