using System.Numerics.Tensors;

namespace TtaService.Engine.Drift;

/// <summary>Notices that a stream's state answers whatever it sees with one class. Not thread-safe.</summary>
/// <remarks>One class for hundreds of frames is no collapse: cameras show such runs. So a run only makes the stream a suspect, which is then compared with the source
/// model, now and then as long as the two agree.
/// It has collapsed when the source names other classes in nearly all compared frames and the state describes the frames worse than the one that the stream would go back to:
/// where a stream is right and the source is not, as under a corruption, its statistics describe the frames better.</remarks>
/// <param name="frames">Frames of a run that make a suspect, and compared frames that decide; 0 never suspects.</param>
internal sealed class CollapseDetector(int frames)
{
    // Of the run's compared frames, the share on which the source must contradict.
    private const double Contradiction = 0.8;

    // How much worse the stream's state must be than a fresh one.
    private const double WorseFit = 2;

    private const int LongestInterval = 64;

    // A comparison costs a step as much again, however many frames it has: in the long run it is one step in eight at most.
    private const int FramesOfAStep = LongestInterval / 8;

    // What a frame of another class takes off a run.
    private const int Slip = 4;

    private int _class = -1;
    private int _run;
    private int _compared;
    private int _contradicted;
    private int _interval = 1;
    private int _sinceCompared;
    private int _stepsSinceCompared;
    private double _misfit;
    private double _freshMisfit;

    /// <summary>Whether the next step is to be compared with the source model.</summary>
    public bool Suspects => frames > 0 && _run >= frames && _sinceCompared >= _interval && _stepsSinceCompared >= _interval / FramesOfAStep;

    /// <summary>Forgets everything.</summary>
    public void Restart() => (_class, _run, _compared, _contradicted, _interval, _sinceCompared, _stepsSinceCompared, _misfit, _freshMisfit) = (-1, 0, 0, 0, 1, 0, 0, 0, 0);

    /// <summary>Takes the class scores of a step's frames, [n, classes].</summary>
    public void Observe(ReadOnlySpan<float> scores, int classes)
    {
        _stepsSinceCompared++;
        for (var at = 0; at < scores.Length; at += classes)
        {
            var named = TensorPrimitives.IndexOfMax(scores.Slice(at, classes));
            _sinceCompared++;
            if (named == _class)
            {
                _run++;
            }
            else if ((_run -= Slip) <= 0)
            {
                Restart();
                (_class, _run) = (named, 1);
            }
        }
    }

    /// <summary>Takes the source model's scores of a step's frames, [n, classes].</summary>
    /// <returns>Whether it contradicts, so that the fit of the statistics is asked for (<see cref="HasCollapsed"/>).</returns>
    public bool Contradicts(ReadOnlySpan<float> source, int classes)
    {
        for (var at = 0; at < source.Length; at += classes)
        {
            _compared++;
            _contradicted += TensorPrimitives.IndexOfMax(source.Slice(at, classes)) == _class ? 0 : 1;
        }

        _sinceCompared = 0;
        _stepsSinceCompared = 0;
        if (_contradicted >= Contradiction * _compared)
        {
            return true;
        }

        Trust();
        return false;
    }

    /// <summary>Of how many frames the scores, [n, classes], name the class of the run.</summary>
    public int Named(ReadOnlySpan<float> scores, int classes)
    {
        var named = 0;
        for (var at = 0; at < scores.Length; at += classes)
        {
            named += TensorPrimitives.IndexOfMax(scores.Slice(at, classes)) == _class ? 1 : 0;
        }

        return named;
    }

    /// <summary>Takes how badly the stream's state describes those frames, and how badly a fresh one does. Of a state that is no statistics: how many of them it gives the class
    /// of the run, and how many a fresh one does.</summary>
    public bool HasCollapsed(double misfit, double freshMisfit)
    {
        _misfit += misfit;
        _freshMisfit += freshMisfit;
        if (_misfit <= WorseFit * _freshMisfit)
        {
            Trust();
            return false;
        }

        _interval = 1;
        return _compared >= frames;
    }

    // Agreement is asked for ever more rarely, and counts anew.
    private void Trust()
    {
        _interval = Math.Min(LongestInterval, 2 * _interval);
        (_compared, _contradicted, _misfit, _freshMisfit) = (0, 0, 0, 0);
    }
}
