using TtaService.Engine.Execution;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;

namespace TtaService.Serving.Streams;

/// <summary>Collects steps of different streams into one forward pass of their model.</summary>
/// <remarks>
/// A stream's work runs in the order of its admission, one at a time, so a batch holds at most one step of a stream. Streams that may run
/// stand in one line and are charged for their frames: small steps pass large ones, nobody starves. While a batch runs the next one gathers,
/// so the loop waits for company only when steps of other streams are about to be decoded. Streams that are owed run between the operators of a batch, too.
/// </remarks>
internal sealed class StepBatcher : IAsyncDisposable
{
    private readonly InferenceEngine _engine;
    private readonly StepAdmission _admission;
    private readonly StepPreparation _preparation;
    private readonly BatchAnswers _answers;
    private readonly StepReports _reports;
    private readonly StepDefects _defects;
    private readonly TimeSpan _maxDelay;
    private readonly LoopBeat _beat;
    private readonly TimeProvider _clock;
    private readonly WorkLine _line;
    private readonly PassPace _pace;
    private readonly StepEndings _endings;
    private readonly BatchForming _forming;
    private readonly SignalledLoop _loop;
    private readonly Task _running;
    private int _queuedOperations;

    public StepBatcher(
        InferenceEngine engine,
        PassRunner runner,
        StepAdmission admission,
        StepPreparation preparation,
        BatchAnswers answers,
        StepReports reports,
        PictureGuard guard,
        StepDefects defects,
        BatchingOptions options,
        LoopBeat beat,
        TimeProvider clock)
    {
        _engine = engine;
        Runner = runner;
        _admission = admission;
        _preparation = preparation;
        _answers = answers;
        _reports = reports;
        _defects = defects;
        _maxDelay = options.MaxDelay;
        _beat = beat;
        _clock = clock;
        _loop = new SignalledLoop(beat);
        _line = new WorkLine(Ready);
        _pace = new PassPace(options);
        _endings = new StepEndings(admission, reports, _line, _loop);
        _forming = new BatchForming(_line, _pace, guard, _endings, options, clock);
        (Runner.FormSmall, Runner.SmallEnded) = (most => Join(Form(most)), Ran);
        _running = Task.Run(() => _loop.RunAsync(TurnAsync, IsOver));
    }

    /// <summary>Guards the batcher's and its sessions' fields. Never held across torch, decoding or I/O.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Runs what was formed.</summary>
    public PassRunner Runner { get; }

    /// <summary>Steps that wait or run.</summary>
    public int QueuedSteps => _admission.Steps;

    /// <summary>Admits a step. It keeps the place in the stream's order that it has now; the outcome comes when it ran or was refused.</summary>
    public Task<StepOutcome> SubmitAsync(StreamSession session, StepSubmission submission)
    {
        var step = new QueuedStep(session, submission, _clock.GetTimestamp()) { Span = _reports.Began(session, submission.Frames) };
        if (submission.Sequence > 0 && submission.Sequence <= session.LastSequence)
        {
            // Outside the gate: it reads the frames. Of a new number it is taken with the decoding.
            step.Digest = submission.Digest();
        }

        lock (Gate)
        {
            if (WhyRefused(step) is { } refusal)
            {
                _reports.NotRun(step, refusal);
                return Task.FromResult(refusal);
            }

            _admission.Enter(session.Waiting, submission.Bytes);
            _line.Enter(step);
        }

        try
        {
            // Outside the gate: a token that is cancelled already runs the callback here.
            step.Cancellation = submission.Cancel.UnsafeRegister(static (state, _) => ((QueuedStep)state!).Session.Model.Batcher.TakeBack((QueuedStep)state), step);
        }
        catch (ObjectDisposedException)
        {
            // Its call is over.
            TakeBack(step);
        }

        _ = Task.Run(() => PrepareAsync(step));
        return step.Outcome.Task;
    }

    /// <summary>Waits until all that was admitted for the stream so far has its outcome.</summary>
    public Task SettledAsync(StreamSession session)
    {
        lock (Gate)
        {
            return session.NothingWaits ? Task.CompletedTask : BetweenStepsAsync(session, static _ => true);
        }
    }

    /// <summary>Runs work on the stream's state between two of its steps, after all that was admitted before.</summary>
    public Task<T> BetweenStepsAsync<T>(StreamSession session, Func<AdaptiveModel, T> work)
    {
        var done = new TaskCompletionSource<T>(TaskCreationOptions.RunContinuationsAsynchronously);
        var operation = new QueuedOperation(session, async engine =>
        {
            try
            {
                done.SetResult(await engine.InvokeAsync(work).ConfigureAwait(false));
            }
            catch (Exception failure)
            {
                done.SetException(failure);
            }
        });
        lock (Gate)
        {
            if (_forming.Stopping)
            {
                throw new FailureException(Failure.Stopping());
            }

            _queuedOperations++;
            _line.Enter(operation);
        }

        return done.Task;
    }

    /// <summary>Fails the stream's steps that have not begun.</summary>
    public void Abandon(StreamSession session, Failure failure)
    {
        lock (Gate)
        {
            foreach (var step in session.Waiting.Work.OfType<QueuedStep>().ToList())
            {
                _endings.Refuse(step, failure);
            }
        }
    }

    /// <summary>Refuses new work, fails what has not begun, and waits for what runs.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (Gate)
        {
            _forming.Stopping = true;
            _loop.Signal();
        }

        await _running.ConfigureAwait(false);
        _loop.Dispose();
    }

    private StepOutcome? WhyRefused(QueuedStep step)
    {
        var (session, submission) = (step.Session, step.Submission);
        if (_forming.Stopping)
        {
            return Failure.Stopping();
        }

        if (session.Deleted)
        {
            return session.Ending ?? Failure.StreamNotFound(session.Name);
        }

        if (submission.Sequence == ulong.MaxValue)
        {
            return Failure.Invalid(
                "SEQUENCE_OUT_OF_RANGE",
                "step.sequence",
                $"sequence {submission.Sequence} has no successor; number the steps 1, 2, 3, ..., or 0 for none (a client's -1 becomes this number)");
        }

        // One that another call has moved past since its digest was not taken waits for its turn, and is recalled then.
        if (step.Digest is not null && session.Answered.Recall(submission.Sequence, step.Digest) is { } recalled)
        {
            return recalled;
        }

        return _admission.WhyFull(session.Name, session.Waiting, submission.Bytes) is { } full ? (StepOutcome?)full : null;
    }

    // A step that is not decoded must not wait for ever, and its stream behind it.
    private async Task PrepareAsync(QueuedStep step)
    {
        PreparedStep prepared;
        try
        {
            prepared = await _preparation.PrepareAsync(step, () => !step.Outcome.Task.IsCompleted && !_forming.Expired(step)).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            prepared = new PreparedStep(null, [], TimeSpan.Zero, _defects.Explain(defect));
        }

        lock (Gate)
        {
            if (step.Place is null)
            {
                prepared.Frames?.Dispose();
                return;
            }

            (step.Decoded, step.Pictures, step.DecodeTime) = (prepared.Frames, prepared.Pictures, prepared.Took);
            step.DecodeFailure = prepared.Failure ?? (prepared.Frames is null ? BatchForming.ExpiredFailure(step) : null);
            _line.Settle(step.Queue);
            _loop.Signal();
        }
    }

    // Runs one batch. False when there was nothing to run.
    private async Task<bool> TurnAsync()
    {
        await WaitForCompanyAsync().ConfigureAwait(false);
        var taken = Form(mostOfSmall: null);
        if (taken.Count == 0)
        {
            return false;
        }

        var batch = Join(taken);
        if (batch.Count > 0)
        {
            await RunAsync(batch).ConfigureAwait(false);
        }

        return true;
    }

    private bool IsOver()
    {
        lock (Gate)
        {
            if (_line.Count == 0)
            {
                _beat.Rest();
            }

            return _forming.Stopping && _admission.Steps == 0 && _queuedOperations == 0;
        }
    }

    private async ValueTask WaitForCompanyAsync()
    {
        var began = _clock.GetTimestamp();
        while (CompanyIsComing())
        {
            var left = _maxDelay - _clock.GetElapsedTime(began);
            if (left <= TimeSpan.Zero || !await _loop.WaitAsync(left).ConfigureAwait(false))
            {
                return;
            }
        }
    }

    private bool CompanyIsComing()
    {
        lock (Gate)
        {
            return !_forming.Stopping && _line.CompanyIsComing(_pace.MaxFrames);
        }
    }

    private List<TakenSteps> Form(int? mostOfSmall)
    {
        lock (Gate)
        {
            return _forming.Form(mostOfSmall, operation => _ = RunOperationAsync(operation));
        }
    }

    // Outside the gate: it copies frames. Steps whose frames can't be joined fail here.
    private List<BatchEntry> Join(List<TakenSteps> taken)
    {
        var batch = new List<BatchEntry>(taken.Count);
        foreach (var steps in taken)
        {
            try
            {
                batch.Add(new BatchEntry(steps.Session, steps.Steps, JoinedFrames.Join(steps.Steps), steps.Freeze) { NotLearned = steps.NotLearned });
            }
            catch (Exception defect)
            {
                var failure = _defects.Explain(defect);
                lock (Gate)
                {
                    steps.Steps.ForEach(step => _endings.Refuse(step, failure));
                    _line.Done(steps.Session.Waiting);
                }
            }
        }

        return batch;
    }

    private async Task RunAsync(List<BatchEntry> batch)
    {
        var span = _reports.BatchBegan(batch);
        var (results, pass) = await Runner.RunAsync(batch).ConfigureAwait(false);
        _reports.BatchEnded(span, batch, pass);

        // Answers are made while the next batch runs.
        _ = Task.Run(() => Ran(batch, results, pass));
    }

    private void Ran(List<BatchEntry> batch, EntryResult[] results, BatchPass pass)
    {
        lock (Gate)
        {
            _admission.Ran(pass.Run, batch.Count);
            _pace.Ran(batch.Sum(entry => entry.Block.Count), pass.Run);
        }

        Finish(batch, results, pass);
    }

    // Does not throw: whatever fails here is the failure of the steps that it belongs to.
    private void Finish(List<BatchEntry> batch, EntryResult[] results, BatchPass pass)
    {
        var outcomes = _answers.Outcomes(batch, results, pass);
        _reports.Ran(batch, results, outcomes, pass);
        lock (Gate)
        {
            // All at a time, so that those that go on do so in one batch again.
            for (var i = 0; i < batch.Count; i++)
            {
                Commit(batch[i], results[i], outcomes[i]);
            }

            _loop.Signal();
        }
    }

    private void Commit(BatchEntry entry, EntryResult result, StepOutcome[] outcomes)
    {
        var session = entry.Session;
        var counts = result is { Result.Status: StepStatus.Ok } or { Lost: not null };
        if (counts)
        {
            var (steps, frames) = result.Result is { } ran ? (ran.Steps, ran.Frames) : (result.Lost!.Steps, result.Lost.Frames);
            session.Stepped(steps, frames);
        }

        if (result.Lost is not null)
        {
            entry.Steps.ForEach(step => session.Answered.Pass(step.Submission.Sequence));
        }

        // A frame that comes again after a step that failed, or was frozen, has taught nothing yet.
        if (counts && !entry.Freeze && entry.Steps[^1].Pictures is [.., var last])
        {
            session.LastPicture = last;
        }

        for (var i = 0; i < outcomes.Length; i++)
        {
            if (outcomes[i].Answer is { } answer)
            {
                session.Answered.Record(entry.Steps[i].Submission.Sequence, entry.Steps[i].Digest, answer);
            }

            _endings.Complete(entry.Steps[i], outcomes[i]);
        }

        _line.Done(session.Waiting);
    }

    private async Task RunOperationAsync(QueuedOperation operation)
    {
        try
        {
            await operation.Run(_engine).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            _beat.Failed($"an operation on stream '{operation.Session.Name}'", defect);
        }

        lock (Gate)
        {
            _queuedOperations--;
            _line.Done(operation.Queue);
            _loop.Signal();
        }
    }

    private void TakeBack(QueuedStep step)
    {
        lock (Gate)
        {
            if (step.Place is not null)
            {
                _endings.Refuse(step, Failure.Cancelled());
            }
        }
    }

    // Under the gate.
    private void Ready()
    {
        _beat.Begin();
        _loop.Signal();
    }
}
