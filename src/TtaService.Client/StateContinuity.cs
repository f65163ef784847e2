using TtaService.V1;

namespace TtaService.Client;

/// <summary>Follows a stream's committed steps and says when its state is not the one that was left. Not thread-safe: the reader of the replies owns it.</summary>
internal sealed class StateContinuity(string stream)
{
    private long _steps;

    /// <summary>Takes what the server says at an opening.</summary>
    public StreamEvent? Take(StreamOpened opened, bool first)
    {
        var before = _steps;
        _steps = opened.Age?.Steps ?? 0;
        if (first || before == 0)
        {
            return null;
        }

        return opened.Origin switch
        {
            StateOrigin.Fresh => new StateLost(stream, before, opened.Warnings.Count > 0 ? string.Join("; ", opened.Warnings) : "the server knows no state of it"),
            StateOrigin.Reset when _steps < before => new StateLost(stream, before, "it was reset"),
            _ => _steps < before ? new StateRewound(stream, before - _steps, _steps) : null,
        };
    }

    /// <summary>Takes an answer: an operator may reset or roll back a stream while it is open.</summary>
    public StreamEvent? Take(StepReply reply)
    {
        // A kept answer tells of an earlier state.
        if (reply.Replayed)
        {
            return null;
        }

        var before = _steps;
        _steps = reply.Step;
        if (reply.Step >= before)
        {
            return null;
        }

        // The first step after a reset; this one may have been frozen.
        return reply.Step <= 1 && before > 1 ? new StateLost(stream, before, "it was reset") : new StateRewound(stream, before - reply.Step, reply.Step);
    }
}
