using System.Diagnostics;
using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using TtaService.Serving.Frames;
using TtaService.Serving.Loops;
using TtaService.Serving.Telemetry;

namespace TtaService.Serving.Streams;

/// <summary>Collects steps of different streams into one forward pass of their model.</summary>
/// <remarks>
/// A stream's work runs in the order of its admission, one at a time, so a batch holds at most one step of a stream. Streams that may run
/// stand in one line and are charged for their frames: small steps pass large ones, nobody starves. While a batch runs the next one gathers,
/// so the loop waits for company only when steps of other streams are about to be decoded.
/// </remarks>
internal sealed partial class StepBatcher : IAsyncDisposable
{
    private readonly InferenceEngine _engine;
    private readonly StreamResidency _residency;
    private readonly BatchingOptions _options;
    private readonly int _maxPendingSteps;
    private readonly DecodeTurns _decoding;
    private readonly PictureGuard _guard;
    private readonly BatchAnswers _answers;
    private readonly StepReports _reports;
    private readonly TtaActivities _activities;
    private readonly LoopBeat _beat;
    private readonly TimeProvider _clock;
    private readonly ILogger _logger;
    private readonly FairLine<StreamSession> _line = new();
    private readonly SemaphoreSlim _signal = new(0, 1);
    private readonly Task _loop;
    private int _decodingStreams;
    private int _queuedSteps;
    private int _queuedOperations;
    private long _queuedBytes;
    private double _secondsPerStep;
    private PassTimes _passTimes;
    private int _failuresInARow;
    private bool _stopping;

    public StepBatcher(InferenceEngine engine, StreamResidency residency, BatchingOptions options, StreamsOptions streams, DecodeTurns decoding, PictureGuard guard, AnswerWriter answers, TtaMetrics metrics, TtaActivities activities, LoopBeat beat, TimeProvider clock, ILogger logger)
    {
        _engine = engine;
        _residency = residency;
        _options = options;
        _maxPendingSteps = streams.MaxPendingSteps;
        _decoding = decoding;
        _guard = guard;
        _answers = new BatchAnswers(answers, metrics, clock);
        _reports = new StepReports(metrics, clock, logger);
        _activities = activities;
        _beat = beat;
        _clock = clock;
        _logger = logger;
        _loop = Task.Run(LoopAsync);
    }

    /// <summary>Guards the batcher's and its sessions' fields. Never held across torch, decoding or I/O.</summary>
    public Lock Gate { get; } = new();

    /// <summary>Steps that wait or run.</summary>
    public int QueuedSteps => Volatile.Read(ref _queuedSteps);

    /// <summary>Passes that failed since the last that went well: what a stream sent, or the device.</summary>
    public int FailuresInARow
    {
        get => Volatile.Read(ref _failuresInARow);
        set => Volatile.Write(ref _failuresInARow, value);
    }

    /// <summary>Runs a pass on the engine's thread. Tests put passes here that fail at a chosen point.</summary>
    internal Func<AdaptiveModel, IReadOnlyList<StreamStep>, IReadOnlyList<StepResult>> RunPass { get; set; } = static (model, steps) => model.Run(steps);

    /// <summary>Admits a step. It keeps the place in the stream's order that it has now; the outcome comes when it ran or was refused.</summary>
    public Task<StepOutcome> SubmitAsync(StreamSession session, StepSubmission submission)
    {
        var step = new QueuedStep(session, submission, _clock.GetTimestamp()) { Span = Reported(() => _activities.StepBegan(session, submission.Frames)) };
        if (submission.Sequence > 0 && submission.Sequence <= session.LastSequence)
        {
            // Outside the gate: it reads the frames. Of a new number it is taken with the decoding.
            step.Digest = submission.Digest();
        }

        lock (Gate)
        {
            if (WhyRefused(step) is { } refusal)
            {
                Report(() => _reports.NotRun(step, refusal));
                return Task.FromResult(refusal);
            }

            _queuedSteps++;
            _queuedBytes += submission.Bytes;
            session.PendingSteps++;
            step.Place = session.Queue.AddLast(step);
            Settle(session);
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

        _ = Task.Run(() => DecodeOrFailAsync(step));
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
            if (_stopping)
            {
                throw new FailureException(Failure.Stopping());
            }

            _queuedOperations++;
            operation.Place = session.Queue.AddLast(operation);
            Settle(session);
        }

        return done.Task;
    }

    /// <summary>Fails the stream's steps that have not begun.</summary>
    public void Abandon(StreamSession session, Failure failure)
    {
        lock (Gate)
        {
            for (var place = session.Queue.First; place is not null;)
            {
                var next = place.Next;
                if (place.Value is QueuedStep step)
                {
                    Refuse(step, failure);
                }

                place = next;
            }
        }
    }

    /// <summary>Refuses new work, fails what has not begun, and waits for what runs.</summary>
    public async ValueTask DisposeAsync()
    {
        lock (Gate)
        {
            _stopping = true;
            Signal();
        }

        await _loop.ConfigureAwait(false);
        _signal.Dispose();
    }

    private StepOutcome? WhyRefused(QueuedStep step)
    {
        var (session, submission) = (step.Session, step.Submission);
        if (_stopping)
        {
            return Failure.Stopping();
        }

        if (session.Deleted)
        {
            return session.Ending ?? Failure.StreamNotFound(session.Name);
        }

        if (submission.Sequence == ulong.MaxValue)
        {
            return Failure.Invalid("SEQUENCE_OUT_OF_RANGE", "step.sequence", $"sequence {submission.Sequence} has no successor; number the steps 1, 2, 3, ..., or 0 for none (a client's -1 becomes this number)");
        }

        // One that another call has moved past since its digest was not taken waits for its turn, and is recalled then.
        if (step.Digest is not null && session.Answered.Recall(submission.Sequence, step.Digest) is { } recalled)
        {
            return recalled;
        }

        if (session.PendingSteps >= _maxPendingSteps)
        {
            return Overloaded("STREAM_QUEUE_FULL", $"{session.PendingSteps} steps of stream '{session.Name}' wait already, the limit is {_maxPendingSteps} (Streams:MaxPendingSteps); wait for replies", session.PendingSteps);
        }

        if (_queuedSteps >= RoomFor(session, _options.MaxQueuedSteps))
        {
            return Overloaded("QUEUE_FULL", $"{_queuedSteps} steps wait already, the limit is {_options.MaxQueuedSteps} (Batching:MaxQueuedSteps); send again later", _queuedSteps);
        }

        if (submission.Bytes > _options.MaxQueuedBytes)
        {
            return new Failure(FailureKind.ResourceExhausted, "STEP_TOO_LARGE", $"the step takes {submission.Bytes} bytes, encoded and decoded, and all that wait may take {_options.MaxQueuedBytes} (Batching:MaxQueuedBytes); send fewer frames a step") { Field = "step.frames" };
        }

        if (submission.Bytes > RoomFor(session, _options.MaxQueuedBytes) - _queuedBytes)
        {
            return Overloaded("QUEUE_FULL", $"{_queuedBytes} bytes of frames wait already and the step brings {submission.Bytes}, the limit is {_options.MaxQueuedBytes} (Batching:MaxQueuedBytes); send again later", _queuedSteps);
        }

        return null;
    }

    // Some room is kept for streams that have nothing waiting: those that send all they may cannot fill the queue for those that send a frame now and then.
    private static long RoomFor(StreamSession session, long limit) => session.PendingSteps == 0 ? limit : limit - (limit / 8);

    private StepOutcome Overloaded(string reason, string message, int ahead) =>
        new Failure(FailureKind.ResourceExhausted, reason, message) { RetryAfter = TimeSpan.FromSeconds(Math.Clamp(ahead * _secondsPerStep / 2, 0.01, 5)) };

    // A step that is not decoded must not wait for ever, and its stream behind it.
    private async Task DecodeOrFailAsync(QueuedStep step)
    {
        try
        {
            await DecodeAsync(step).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            var failure = Failure.Internal(LogDefect(defect));
            lock (Gate)
            {
                if (step.Place is not null)
                {
                    step.DecodeFailure = failure;
                    Settle(step.Session);
                    Signal();
                }
            }
        }
    }

    private async Task DecodeAsync(QueuedStep step)
    {
        DecodedFrames? frames = null;
        Failure? failure = null;
        try
        {
            // While it waits in its queue the state does not leave again.
            await step.Session.BringBackAsync().ConfigureAwait(false);
        }
        catch (FailureException unreachable)
        {
            failure = unreachable.Failure;
        }
        catch (Exception defect)
        {
            failure = Failure.Internal(LogDefect(defect));
        }

        try
        {
            if (failure is null)
            {
                step.Digest ??= step.Submission.Sequence > 0 ? step.Submission.Digest() : null;
                (frames, step.DecodeTime) = await _decoding.DecodeAsync(step.Session.Decoding, step.Submission.Decoding, () => !step.Outcome.Task.IsCompleted && !Expired(step), step.Outcome.Task).ConfigureAwait(false);
                step.Pictures = frames is null ? [] : PicturesOf(frames);
            }
        }
        catch (FailureException refused)
        {
            failure = refused.Failure;
        }
        catch (Exception defect)
        {
            failure = Failure.Internal(LogDefect(defect));
        }

        lock (Gate)
        {
            if (step.Place is null)
            {
                frames?.Dispose();
                return;
            }

            step.Frames = frames;
            step.DecodeFailure = failure ?? (frames is null ? ExpiredFailure(step) : null);
            Settle(step.Session);
            Signal();
        }
    }

    private async Task LoopAsync()
    {
        while (true)
        {
            await _signal.WaitAsync().ConfigureAwait(false);
            while (await TurnAsync().ConfigureAwait(false))
            {
                _beat.Turned();
            }

            lock (Gate)
            {
                if (_line.Count == 0)
                {
                    _beat.Rest();
                }

                if (_stopping && _queuedSteps == 0 && _queuedOperations == 0)
                {
                    return;
                }
            }
        }
    }

    // Runs one batch. False when there was nothing to run.
    private async Task<bool> TurnAsync()
    {
        try
        {
            await WaitForCompanyAsync().ConfigureAwait(false);
            var taken = Form();
            if (taken.Count == 0)
            {
                return false;
            }

            var batch = Join(taken);
            if (batch.Count > 0)
            {
                await RunAsync(batch).ConfigureAwait(false);
            }
        }
        catch (Exception defect)
        {
            // Whatever was taken has its outcome by now; what is still in line comes next.
            _beat.Failed("a turn", defect);
        }

        return true;
    }

    private async ValueTask WaitForCompanyAsync()
    {
        var began = _clock.GetTimestamp();
        while (CompanyIsComing())
        {
            var left = _options.MaxDelay - _clock.GetElapsedTime(began);
            if (left <= TimeSpan.Zero || !await _signal.WaitAsync(left).ConfigureAwait(false))
            {
                return;
            }
        }
    }

    private bool CompanyIsComing()
    {
        lock (Gate)
        {
            if (_decodingStreams == 0 || _line.Count == 0 || _stopping)
            {
                return false;
            }

            var frames = 0;
            foreach (var session in _line.Waiting)
            {
                frames += session.Queue.First?.Value is QueuedStep step ? step.Submission.Frames : 0;
                if (frames >= _options.MaxFrames)
                {
                    return false;
                }
            }

            return true;
        }
    }

    // Takes the first of the line, then whoever fits with it; the others keep their places.
    private List<TakenSteps> Form()
    {
        var taken = new List<TakenSteps>();
        lock (Gate)
        {
            var frames = 0;
            var left = new List<FairTurn<StreamSession>>();
            while (_line.Count > 0 && frames < _options.MaxFrames)
            {
                var turn = _line.Take();
                var session = turn.Who;
                // Out of the line and not to be put back while it is looked at.
                session.Phase = StreamPhase.Running;
                switch (NextOf(session))
                {
                    case QueuedOperation operation:
                        _line.Charge(turn, 0);
                        Begin(operation);
                        _ = RunOperationAsync(operation);
                        break;
                    case QueuedStep step when taken.Count == 0 || Fits(taken[0].Steps[0].Frames!.Block, step.Frames!.Block, frames):
                        var steps = Take(step);
                        frames += steps.Frames;
                        _line.Charge(turn, steps.Frames);
                        taken.Add(steps);
                        break;
                    case QueuedStep:
                        session.Phase = StreamPhase.Ready;
                        left.Add(turn);
                        break;
                    default:
                        session.Phase = StreamPhase.Idle;
                        Settle(session);
                        break;
                }
            }

            left.ForEach(turn => _line.PutBack(turn));
        }

        return taken;
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
                var failure = Failure.Internal(LogDefect(defect));
                lock (Gate)
                {
                    steps.Steps.ForEach(step => Refuse(step, failure));
                    steps.Session.Phase = StreamPhase.Idle;
                    Settle(steps.Session);
                }
            }
        }

        return batch;
    }

    private bool Fits(FrameBlock first, FrameBlock next, int frames) =>
        frames + next.Count <= _options.MaxFrames && (first.Channels, first.Height, first.Width) == (next.Channels, next.Height, next.Width);

    // The stream's first work that may run; what may not run any more gets its outcome here.
    private QueuedWork? NextOf(StreamSession session)
    {
        while (session.Queue.First?.Value is { Ready: true } work)
        {
            if (work is not QueuedStep step || WhyNotRun(step) is not { } outcome)
            {
                return work;
            }

            Refuse(step, outcome);
        }

        return null;
    }

    private StepOutcome? WhyNotRun(QueuedStep step)
    {
        var session = step.Session;
        if (step.DecodeFailure is { } failure)
        {
            return failure;
        }

        if (_stopping)
        {
            return Failure.Stopping();
        }

        if (session.State is null)
        {
            return Failure.StreamNotFound(session.Name);
        }

        // The same number may have been waiting twice.
        return session.Answered.Recall(step.Submission.Sequence, step.Digest) ?? (Expired(step) ? (StepOutcome?)ExpiredFailure(step) : null);
    }

    private bool Expired(QueuedStep step) => step.Submission.Timeout is { } timeout && _clock.GetElapsedTime(step.Submitted) >= timeout;

    private static Failure ExpiredFailure(QueuedStep step) =>
        new(FailureKind.DeadlineExceeded, "STEP_EXPIRED", $"the step did not begin within its {step.Submission.Timeout?.TotalMilliseconds:0.###} ms and never runs; the stream's state is as it was");

    private TakenSteps Take(QueuedStep first)
    {
        var session = first.Session;
        var settings = session.Settings;
        var freeze = first.Submission.Freeze ?? settings.Frozen;
        List<QueuedStep> joined = [first];
        var frames = first.Submission.Frames;
        Begin(first);
        while (joined.Count < settings.MaxCoalesce && NextOf(session) is QueuedStep next
            && (next.Submission.Freeze ?? settings.Frozen) == freeze
            && frames + next.Submission.Frames <= _options.MaxFrames
            && (next.Submission.Sequence == 0 || joined.TrueForAll(step => step.Submission.Sequence < next.Submission.Sequence))
            && JoinedFrames.Match(first.Frames!.Block, next.Frames!.Block))
        {
            Begin(next);
            joined.Add(next);
            frames += next.Submission.Frames;
        }

        return new TakenSteps(session, joined, frames, freeze, NotLearnedOf(session, joined));
    }

    private static void Begin(QueuedWork work)
    {
        work.Session.Queue.Remove(work.Place!);
        work.Place = null;
    }

    private async Task RunAsync(List<BatchEntry> batch)
    {
        var span = Reported(() => _activities.Source.HasListeners() ? _activities.BatchBegan(batch[0].Session.Model.Name, batch.SelectMany(entry => entry.Steps).Select(step => step.Span)) : null);
        var started = _clock.GetTimestamp();
        _passTimes = default;
        var results = await TryRunAsync(batch).ConfigureAwait(false);
        var run = _clock.GetElapsedTime(started);
        var pass = new BatchPass(started, run, _passTimes);
        if (span is not null)
        {
            Report(() => TtaActivities.BatchEnded(span, batch.Count, batch.Sum(entry => entry.Block.Count), _passTimes));
        }

        lock (Gate)
        {
            var perStep = run.TotalSeconds / batch.Count;
            _secondsPerStep = _secondsPerStep == 0 ? perStep : (0.9 * _secondsPerStep) + (0.1 * perStep);
        }

        // Answers are made while the next batch runs.
        _ = Task.Run(() => Finish(batch, results, pass));
    }

    // A result, a lost answer or a failure an entry. Does not throw.
    private async Task<object[]> TryRunAsync(List<BatchEntry> batch)
    {
        PassAttempt attempt;
        try
        {
            attempt = await _engine.InvokeAsync(model => Attempt(model, batch)).ConfigureAwait(false);
        }
        catch (Exception defect)
        {
            // The engine has stopped: nothing ran.
            attempt = PassAttempt.NotRun(batch.Count, defect);
        }

        if (attempt.Results is { } results)
        {
            FailuresInARow = 0;
            return [.. results];
        }

        var failure = WhyFailed(attempt.Thrown!);
        var outcomes = new object[batch.Count];
        for (var i = 0; i < outcomes.Length; i++)
        {
            if (attempt.Committed[i] is { } counters)
            {
                // It must not run again, whatever became of its answer.
                outcomes[i] = new LostAnswer(counters.Steps, counters.Frames, failure);
            }
            else if (batch.Count == 1)
            {
                outcomes[i] = failure;
            }
            else
            {
                // One step may have spoiled the pass for the others, and states that do not fit together may fit one by one.
                outcomes[i] = (await TryRunAsync([batch[i]]).ConfigureAwait(false))[0];
            }
        }

        return outcomes;
    }

    private PassAttempt Attempt(AdaptiveModel model, List<BatchEntry> batch)
    {
        try
        {
            _residency.Enter(model, batch.ConvertAll(entry => entry.Session));
        }
        catch (Exception failure)
        {
            return PassAttempt.NotRun(batch.Count, failure);
        }

        return PassAttempt.Run(batch.ConvertAll(entry => new StreamStep(entry.Session.State!, entry.Block, entry.Freeze) { NotLearned = entry.NotLearned }), steps =>
        {
            var ran = RunPass(model, steps);
            _passTimes += model.RunTimes;
            return ran;
        });
    }

    private Failure WhyFailed(Exception thrown)
    {
        if (thrown is ArenaFullException full)
        {
            return new Failure(FailureKind.ResourceExhausted, "STATE_MEMORY_FULL", $"{full.Message} (Models:ArenaBytes); raise it") { RetryAfter = TimeSpan.FromSeconds(1) };
        }

        Interlocked.Increment(ref _failuresInARow);
        return Failure.Internal(LogDefect(thrown));
    }

    // Does not throw: whatever fails here is the failure of the steps that it belongs to.
    private void Finish(List<BatchEntry> batch, object[] results, BatchPass pass)
    {
        var frames = batch.Sum(entry => entry.Block.Count);
        var outcomes = new StepOutcome[batch.Count][];
        for (var i = 0; i < batch.Count; i++)
        {
            try
            {
                outcomes[i] = results[i] switch
                {
                    StepResult result => _answers.Outcomes(batch[i], result, pass, frames),
                    LostAnswer lost => batch[i].Fail(lost.Failure),
                    _ => batch[i].Fail((Failure)results[i]),
                };
            }
            catch (Exception defect)
            {
                var failure = Failure.Internal(LogDefect(defect));
                if (results[i] is StepResult { Status: StepStatus.Ok } committed)
                {
                    var lost = new LostAnswer(committed.Steps, committed.Frames, failure);
                    (results[i], failure) = (lost, lost.Failure);
                }

                outcomes[i] = batch[i].Fail(failure);
            }
        }

        Report(() => _reports.Ran(batch, results, outcomes, pass, frames));
        lock (Gate)
        {
            // All at a time, so that those that go on do so in one batch again.
            for (var i = 0; i < batch.Count; i++)
            {
                Settle(batch[i], results[i], outcomes[i]);
            }

            Signal();
        }
    }

    private void Settle(BatchEntry entry, object result, StepOutcome[] outcomes)
    {
        var session = entry.Session;
        if (result is StepResult { Status: StepStatus.Ok } ok)
        {
            session.Stepped(ok.Steps, ok.Frames);
        }
        else if (result is LostAnswer lost)
        {
            session.Stepped(lost.Steps, lost.Frames);
            entry.Steps.ForEach(step => session.Answered.Pass(step.Submission.Sequence));
        }

        // A frame that comes again after a step that failed, or was frozen, has taught nothing yet.
        if (result is StepResult { Status: StepStatus.Ok } or LostAnswer && !entry.Freeze && entry.Steps[^1].Pictures is [.., var last])
        {
            session.LastPicture = last;
        }

        for (var i = 0; i < outcomes.Length; i++)
        {
            if (outcomes[i].Answer is { } answer)
            {
                session.Answered.Record(entry.Steps[i].Submission.Sequence, entry.Steps[i].Digest, answer);
            }

            Complete(entry.Steps[i], outcomes[i]);
        }

        session.Phase = StreamPhase.Idle;
        Settle(session);
    }

    private PictureFacts[] PicturesOf(DecodedFrames frames)
    {
        var pictures = new PictureFacts[frames.Block.Count];
        for (var frame = 0; frame < pictures.Length; frame++)
        {
            var picture = _guard.Look(frames.Block, frame);
            pictures[frame] = frames.IsDamaged(frame) ? picture with { Reason = NotLearnedReason.Damaged } : picture;
        }

        return pictures;
    }

    // In the order in which the stream's frames run: whether one repeats another is told by the one before it.
    private NotLearnedReason[]? NotLearnedOf(StreamSession session, List<QueuedStep> steps)
    {
        var (reasons, before) = (new List<NotLearnedReason>(), session.LastPicture);
        foreach (var picture in steps.SelectMany(step => step.Pictures))
        {
            reasons.Add(_guard.Judge(picture, before));
            before = picture;
        }

        return reasons.TrueForAll(reason => reason == NotLearnedReason.None) ? null : [.. reasons];
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
            operation.Session.Phase = StreamPhase.Idle;
            Settle(operation.Session);
            Signal();
        }
    }

    private void TakeBack(QueuedStep step)
    {
        lock (Gate)
        {
            if (step.Place is not null)
            {
                Refuse(step, Failure.Cancelled());
            }
        }
    }

    // Ends a step that never runs; under the gate.
    private void Refuse(QueuedStep step, StepOutcome outcome)
    {
        Report(() => _reports.NotRun(step, outcome));
        Complete(step, outcome);
    }

    // Ends a step that runs or waits; under the gate.
    private void Complete(QueuedStep step, StepOutcome outcome)
    {
        var session = step.Session;
        if (step.Place is { } place)
        {
            session.Queue.Remove(place);
            step.Place = null;
        }

        session.PendingSteps--;
        _queuedSteps--;
        _queuedBytes -= step.Submission.Bytes;
        step.Frames?.Dispose();
        step.Frames = null;
        step.Cancellation.Unregister();
        step.Outcome.TrySetResult(outcome);
        Settle(session);
        Signal();
    }

    // Puts a stream in line when its first work may run; under the gate. A stream that stands in line or runs is settled by who takes it out.
    private void Settle(StreamSession session)
    {
        if (session.Phase is StreamPhase.Ready or StreamPhase.Running)
        {
            return;
        }

        var next = session.Queue.First?.Value switch
        {
            null => StreamPhase.Idle,
            { Ready: true } => StreamPhase.Ready,
            _ => StreamPhase.Decoding,
        };
        _decodingStreams += (next == StreamPhase.Decoding ? 1 : 0) - (session.Phase == StreamPhase.Decoding ? 1 : 0);
        session.Phase = next;
        if (next == StreamPhase.Ready)
        {
            _line.Add(session, session.Passes, session.Queue.First!.Value is QueuedStep step ? step.Submission.Frames : 0);
            _beat.Begin();
            Signal();
        }
    }

    // Who listens to metrics, traces and logs may fail; the steps must not for it.
    private void Report(Action report) => Reported<object?>(() =>
    {
        report();
        return null;
    });

    private T? Reported<T>(Func<T?> report)
    {
        try
        {
            return report();
        }
        catch (Exception defect)
        {
            _beat.Failed("a report of steps", defect);
            return default;
        }
    }

    private void Signal()
    {
        if (_signal.CurrentCount == 0)
        {
            _signal.Release();
        }
    }

    private string LogDefect(Exception defect)
    {
        var traceId = (Activity.Current?.TraceId ?? ActivityTraceId.CreateRandom()).ToHexString();
        Log.StepFailed(_logger, traceId, defect);
        return traceId;
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 1, Level = LogLevel.Error, Message = "StepFailed, trace {TraceId}")]
        public static partial void StepFailed(ILogger logger, string traceId, Exception defect);
    }
}
