using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <summary>A call's hold on a stream. When the stream's model is replaced, the call goes on: its next step opens the stream on the new model.</summary>
internal sealed class StreamHold : IOpenStream
{
    private readonly StreamStepping _door;
    private readonly StreamOpenings _openings;
    private readonly StreamDepartures _departures;
    private readonly StreamRequest _request;
    private readonly CancellationTokenSource _lost = new();
    private readonly Lock _gate = new();
    private StreamLease _lease;
    private StateOrigin _origin;
    private CancellationTokenRegistration _hearing;
    private Failure? _whyLost;
    private string? _notice;

    // Done when every step that was sent so far has its place in the stream's order.
    private Task _placed = Task.CompletedTask;

    public StreamHold(StreamStepping door, StreamOpenings openings, StreamDepartures departures, StreamRequest request, StreamLease lease, StateOrigin origin)
    {
        (_door, _openings, _departures, _request, _lease) = (door, openings, departures, request, lease);
        Take(lease, origin);
    }

    public CancellationToken Lost => _lost.Token;

    public Failure WhyLost => _whyLost ?? (Session.Ending is { } ending ? ending : Session.Deleted
        ? new Failure(FailureKind.Aborted, "STREAM_DELETED", $"stream '{Session.Name}' was deleted")
        : new Failure(FailureKind.Aborted, "STREAM_TAKEN_OVER", $"another call opened stream '{Session.Name}'; one call at a time has a stream open"));

    private StreamSession Session => _lease.Session;

    private bool LeftForNewer => Session.Ending?.Reason == Failure.ReplacedReason;

    public async Task<OpenedStream> SettledAsync(CancellationToken cancel)
    {
        await Session.Model.Batcher.SettledAsync(Session).WaitAsync(cancel).ConfigureAwait(false);
        return _door.Describe(Session, _origin);
    }

    public Task<StepOutcome> StepAsync(SentStep step)
    {
        lock (_gate)
        {
            Task<StepOutcome>? tried = null;
            if (_placed.IsCompleted)
            {
                tried = LeftForNewer ? null : TrySubmit(step);
                if (tried is not null && !(tried.IsCompleted && LeftForNewer))
                {
                    return tried;
                }

                _placed = MoveAsync();
            }

            // Behind those that wait for the new model already.
            var placed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            var outcome = StepBehindAsync(_placed, tried, step, placed);
            _placed = placed.Task;
            return outcome;
        }
    }

    public Task HandOverAsync(Failure ending) => _departures.HandOverAsync(_lease, ending);

    public void Dispose()
    {
        _hearing.Dispose();
        _lease.Dispose();
    }

    // It may have left between the two looks, and then the step was refused, or answered from what the stream keeps.
    private async Task<StepOutcome> StepBehindAsync(Task before, Task<StepOutcome>? tried, SentStep step, TaskCompletionSource placed)
    {
        Task<StepOutcome> running;
        try
        {
            await before.ConfigureAwait(false);
            if (tried is not null && await tried.ConfigureAwait(false) is var first && first.Failure?.Reason != Failure.ReplacedReason)
            {
                return first;
            }

            running = _whyLost is { } why ? Task.FromResult<StepOutcome>(why) : TrySubmit(step);
        }
        finally
        {
            placed.SetResult();
        }

        var outcome = await running.ConfigureAwait(false);
        return outcome.Answer is { } answer && Interlocked.Exchange(ref _notice, null) is { } notice ? answer with { Notice = notice } : outcome;
    }

    private Task<StepOutcome> TrySubmit(SentStep step)
    {
        try
        {
            return _door.Submit(Session, step);
        }
        catch (FailureException refused)
        {
            return Task.FromResult<StepOutcome>(refused.Failure);
        }
    }

    // What can't be opened again is lost, and says why.
    private async Task MoveAsync()
    {
        var from = Session;
        var settings = from.Settings;
        var request = _request with
        {
            Mode = ResumeMode.ContinueOrCreate,
            Model = from.Model.Name,
            Method = from.Method.Equals(from.Model.DefaultMethod) ? null : new MethodChoice(from.Method.Name, from.Method.Hyperparameters),
            Seed = from.Seed,
            Freeze = settings.Frozen,
            MaxCoalesce = settings.MaxCoalesce,
            Labels = settings.Labels,
            Pinned = settings.Pinned,
        };
        try
        {
            var (lease, origin) = await _openings.OpenAsync(request, _lost.Token).ConfigureAwait(false);
            _hearing.Dispose();
            _lease.Dispose();
            Take(lease, origin);
            _notice = origin is StateOrigin.Restored or StateOrigin.Continued
                ? $"model '{from.Model.Name}' was loaded anew; the stream goes on with its state"
                : $"model '{from.Model.Name}' was replaced by another; the stream starts from its source statistics";
        }
        catch (Exception refused) when (refused is FailureException or OperationCanceledException)
        {
            _whyLost ??= (refused as FailureException)?.Failure ?? Failure.Cancelled();
            await _lost.CancelAsync().ConfigureAwait(false);
        }
    }

    private void Take(StreamLease lease, StateOrigin origin)
    {
        (_lease, _origin) = (lease, origin);
        _hearing = lease.Lost.UnsafeRegister(static (hold, _) => ((StreamHold)hold!).Hear(), this);
    }

    // A stream that left for a newer model is not lost to the call.
    private void Hear()
    {
        if (!LeftForNewer)
        {
            _lost.Cancel();
        }
    }
}
