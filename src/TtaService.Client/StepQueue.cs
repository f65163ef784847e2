using TtaService.V1;

namespace TtaService.Client;

/// <summary>The steps of a stream that have no answer yet, oldest first: numbers them, hands them to the sender, and takes their answers. Thread-safe.</summary>
internal sealed class StepQueue(string stream, AdaptationStreamOptions options) : IDisposable
{
    private readonly Lock _gate = new();
    private readonly LinkedList<Unanswered> _steps = new();
    private readonly SemaphoreSlim _news = new(0, 1);
    private LinkedListNode<Unanswered>? _nextToSend;
    private ulong _lastSequence;
    private bool _progressed;
    private bool _closing;
    private Exception? _failure;

    public bool IsClosing
    {
        get
        {
            lock (_gate)
            {
                return _closing;
            }
        }
    }

    /// <summary>Numbers a step and puts it last.</summary>
    /// <exception cref="InvalidOperationException">Too many wait already.</exception>
    public Unanswered Add(StepRequest request)
    {
        lock (_gate)
        {
            ObjectDisposedException.ThrowIf(_closing, typeof(AdaptationStream));
            var step = new Unanswered(request);
            if (_failure is { } failure)
            {
                step.Reply.SetException(failure);
                return step;
            }

            if (_steps.Count >= options.MaxUnanswered)
            {
                throw new InvalidOperationException($"{_steps.Count} steps of stream '{stream}' wait for their answer already, "
                    + $"the limit is {options.MaxUnanswered} (AdaptationStreamOptions.MaxUnanswered); await earlier ones, or leave frames out");
            }

            request.Sequence = ++_lastSequence;
            step.Place = _steps.AddLast(step);
            _nextToSend ??= step.Place;
            Wake();
            return step;
        }
    }

    /// <summary>Takes a step back whose caller no longer waits: it is not sent, or not again. One that is on its way stays, so that its answer finds its place.</summary>
    public void Withdraw(Unanswered step)
    {
        lock (_gate)
        {
            step.IsAbandoned = true;
            if (step.Place?.List is null || step.IsOnItsWay)
            {
                return;
            }

            if (_nextToSend == step.Place)
            {
                _nextToSend = step.Place.Next;
            }

            _steps.Remove(step.Place);
        }
    }

    /// <summary>A call is open: everything is to be sent over it, from the oldest on.</summary>
    /// <returns>How many of them were sent before.</returns>
    public int Begin(ulong lastSequence)
    {
        lock (_gate)
        {
            _progressed = false;
            // Numbers that another client used meanwhile are answered with its answers.
            _lastSequence = Math.Max(_lastSequence, lastSequence);
            _nextToSend = _steps.First;
            return _steps.Count(step => step.Sends > 0);
        }
    }

    /// <summary>The call has ended. A step that stood first in too many calls without an answer fails alone.</summary>
    /// <returns>Whether an answer came over it.</returns>
    public bool End(string why)
    {
        Unanswered? hopeless = null;
        bool progressed;
        lock (_gate)
        {
            foreach (var step in _steps)
            {
                step.IsOnItsWay = false;
            }

            // Withdrawn while it was on its way: nobody waits, so it is not sent again.
            for (var place = _steps.First; place is not null;)
            {
                var next = place.Next;
                if (place.Value.IsAbandoned)
                {
                    _steps.Remove(place);
                }

                place = next;
            }

            _nextToSend = _steps.First;
            progressed = _progressed;
            if (!progressed && _steps.First is { } first && first.Value.Sends >= options.MaxSends)
            {
                hopeless = first.Value;
                _steps.RemoveFirst();
                _nextToSend = _steps.First;
            }
        }

        hopeless?.Reply.TrySetException(new StepFailedException(new StepError
        {
            Sequence = hopeless.Request.Sequence,
            Code = (int)Google.Rpc.Code.Unavailable,
            Reason = "STEP_BREAKS_CONNECTIONS",
            Message = $"sent {hopeless.Sends} times (AdaptationStreamOptions.MaxSends), and each connection broke before its answer; the last: {why}",
        }));
        return progressed;
    }

    /// <summary>The next step to send; null when there is none now.</summary>
    /// <param name="finished">None will come: the stream is being closed.</param>
    public StepRequest? Next(out bool finished)
    {
        lock (_gate)
        {
            var next = _nextToSend;
            finished = next is null && _closing;
            if (next is null)
            {
                return null;
            }

            _nextToSend = next.Next;
            next.Value.IsOnItsWay = true;
            next.Value.Sends++;
            return next.Value.Request;
        }
    }

    /// <summary>Waits until <see cref="Next"/> may say something else.</summary>
    public Task NewsAsync(CancellationToken cancel) => _news.WaitAsync(cancel);

    /// <summary>Takes the step off that an answer is for; null when it is nobody's.</summary>
    public Unanswered? Answered(ulong sequence)
    {
        lock (_gate)
        {
            if (_steps.First is not { } first || first.Value.Request.Sequence != sequence)
            {
                return null;
            }

            _progressed = true;
            _steps.RemoveFirst();
            return first.Value;
        }
    }

    /// <summary>Takes no more steps.</summary>
    /// <returns>Whether it was closing already, and whether no step waits.</returns>
    public (bool Again, bool IsEmpty) Close()
    {
        lock (_gate)
        {
            var again = _closing;
            _closing = true;
            if (!again)
            {
                Wake();
            }

            return (again, _steps.Count == 0);
        }
    }

    /// <summary>Fails every step, and every later one.</summary>
    public void Fail(Exception failure)
    {
        List<Unanswered> left;
        lock (_gate)
        {
            _failure = failure;
            left = [.. _steps];
            _steps.Clear();
            _nextToSend = null;
        }

        foreach (var step in left)
        {
            step.Reply.TrySetException(failure);
        }
    }

    public void Dispose() => _news.Dispose();

    private void Wake()
    {
        if (_news.CurrentCount == 0)
        {
            _news.Release();
        }
    }
}

/// <summary>A step without an answer.</summary>
internal sealed class Unanswered(StepRequest request)
{
    public StepRequest Request { get; } = request;

    public TaskCompletionSource<StepReply> Reply { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public LinkedListNode<Unanswered>? Place { get; set; }

    /// <summary>Sent over the present call.</summary>
    public bool IsOnItsWay { get; set; }

    /// <summary>Its caller no longer waits.</summary>
    public bool IsAbandoned { get; set; }

    /// <summary>Calls over which it was sent.</summary>
    public int Sends { get; set; }
}
