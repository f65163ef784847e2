using System.Globalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Drift;

/// <summary>Notices when the domain of a stream switches, from how far each frame is from what was observed before it.</summary>
/// <remarks>Page's CUSUM over z = (ln novelty - expected) / deviation; the change is dated to the frame at which the sum last was zero. What is expected is the mean of the
/// stream's own past frames and, as far as it has shown the predicted class before, that of this class: a run of a class that always looks
/// unlike the others (trousers among shirts) is no change, however often the camera comes back to it, while a change of the light lifts every class.
/// A fixed camera that shows long runs of a class has a large deviation, so the same jump counts less there.</remarks>
internal sealed class ChangeDetector
{
    // Frames before anything is judged, and the window of the stream's own past.
    private const int Learning = 128;
    private const int Window = 512;

    // Frames of a class that weigh as much as the mean of all, and the window of its own past. On 256,000 clean frames of 48 cameras that repeat every
    // 1,000, in runs of a class: one alarm, none after the first round (without the classes, one at every round of three cameras); the five changes of light and weather
    // are dated to the step in 30 of 30 streams.
    private const double ClassPrior = 24;
    private const int ClassWindow = 32;

    // The classes that a stream shows most; a camera meets few, and a model may have thousands.
    private const int MaxClasses = 64;

    // What a frame must exceed to count, the most that it may count, and the sum that is a change: noise, blur and compression creep in below it.
    private const double Slack = 1;
    private const double Cap = 3;
    private const double Threshold = 10;

    private readonly Dictionary<int, ClassPast> _classes = [];
    private long _frames;
    private double _mean;
    private double _variance;
    private double _sum;
    private long _zeroStep;
    private long _zeroFrame;

    /// <summary>The first step of the present domain; 0 when no switch was noticed.</summary>
    public long ChangedAtStep { get; private set; }

    /// <summary>The first observed frame of the present domain; 0 when no switch was noticed.</summary>
    public long ChangedAtFrame { get; private set; }

    /// <summary>Forgets everything.</summary>
    public void Restart()
    {
        (_frames, _sum) = (0, 0);
        _classes.Clear();
        (ChangedAtStep, ChangedAtFrame) = (0, 0);
    }

    /// <summary>What it knows, as text for a snapshot.</summary>
    public string Write() => string.Join(' ', new[] { _frames, _zeroStep, _zeroFrame, ChangedAtStep, ChangedAtFrame }
        .Select(number => number.ToString(CultureInfo.InvariantCulture))
        .Concat(new[] { _mean, _variance, _sum }.Select(number => number.ToString("R", CultureInfo.InvariantCulture)))
        .Concat(_classes.OrderBy(past => past.Key).Select(past => string.Create(CultureInfo.InvariantCulture, $"{past.Key}:{past.Value.Frames}:{past.Value.Mean:R}"))));

    /// <summary>Goes on from what <see cref="Write"/> gave.</summary>
    /// <exception cref="SnapshotException">The text is none of these.</exception>
    public void Restore(string text)
    {
        var parts = text.Split(' ');
        var (counts, values) = (new long[5], new double[3]);
        var figures = counts.Length + values.Length;
        var classes = new Dictionary<int, ClassPast>();
        var read = parts.Length >= figures && parts.Length <= figures + MaxClasses && parts.Skip(figures).All(part => ReadClass(part, classes));
        for (var i = 0; read && i < figures; i++)
        {
            read = i < counts.Length
                ? long.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out counts[i]) && counts[i] < long.MaxValue
                : double.TryParse(parts[i], NumberStyles.Float, CultureInfo.InvariantCulture, out values[i - counts.Length]) && double.IsFinite(values[i - counts.Length]);
        }

        if (!read || values[1] < 0 || values[2] is < 0 or > Threshold)
        {
            throw new SnapshotException("the snapshot's metadata 'change_detector' can't be read");
        }

        (_frames, _zeroStep, _zeroFrame, ChangedAtStep, ChangedAtFrame) = (counts[0], counts[1], counts[2], counts[3], counts[4]);
        (_mean, _variance, _sum) = (values[0], values[1], values[2]);
        _classes.Clear();
        foreach (var (number, past) in classes)
        {
            _classes[number] = past;
        }
    }

    /// <summary>Takes note of a frame.</summary>
    /// <param name="frame">Its number among the observed ones, from 1.</param>
    /// <param name="step">The step that it came in.</param>
    /// <param name="novelty">Its distance from what was observed before, at least 0.</param>
    /// <param name="predicted">The class that it was taken for; -1 for a model without classes.</param>
    public void Observe(long frame, long step, float novelty, int predicted = -1)
    {
        var value = Math.Log(novelty + 1e-6);
        var past = _classes.GetValueOrDefault(predicted);
        var residual = value - (((past.Frames * past.Mean) + (ClassPrior * _mean)) / (past.Frames + ClassPrior));
        var z = residual / Math.Sqrt(_variance + 1e-2);
        if (++_frames > Learning)
        {
            _sum = Math.Max(0, _sum + Math.Min(z, Cap) - Slack);
            if (_sum == 0)
            {
                (_zeroStep, _zeroFrame) = (step, frame);
            }
            else if (_sum > Threshold)
            {
                (ChangedAtStep, ChangedAtFrame) = (_zeroStep + 1, _zeroFrame + 1);
                // The new domain is learned from its own frames.
                (_frames, _sum, _zeroStep, _zeroFrame) = (0, 0, step, frame);
                _classes.Clear();
                return;
            }
        }
        else
        {
            (_zeroStep, _zeroFrame) = (step, frame);
        }

        var weight = 1.0 / Math.Min(_frames, Window);
        _mean += weight * (value - _mean);
        _variance = (1 - weight) * (_variance + (weight * residual * residual));
        if (predicted >= 0)
        {
            if (past.Frames == 0 && _classes.Count == MaxClasses)
            {
                _classes.Remove(_classes.MinBy(known => known.Value.Frames).Key);
            }

            var frames = Math.Min(past.Frames, Window) + 1;
            _classes[predicted] = new ClassPast(frames, past.Mean + ((value - past.Mean) / Math.Min(frames, ClassWindow)));
        }
    }

    private static bool ReadClass(string text, Dictionary<int, ClassPast> classes)
    {
        var parts = text.Split(':');
        return parts.Length == 3
            && int.TryParse(parts[0], NumberStyles.None, CultureInfo.InvariantCulture, out var number)
            && long.TryParse(parts[1], NumberStyles.None, CultureInfo.InvariantCulture, out var frames)
            && frames is > 0 and <= Window + 1
            && double.TryParse(parts[2], NumberStyles.Float, CultureInfo.InvariantCulture, out var mean)
            && double.IsFinite(mean)
            && classes.TryAdd(number, new ClassPast(frames, mean));
    }

    /// <summary>How many frames of a class there were (no more than the window are counted), and their mean.</summary>
    private readonly record struct ClassPast(long Frames, double Mean);
}
