using System.Diagnostics;
using System.Numerics;
using TorchSharp;

namespace TtaService.Engine.Execution;

/// <summary>How many threads a pass gets: one or all, whichever was faster lately for passes of about this size.</summary>
/// <remarks>Which it is depends on the neighbours as much as on the model: on a busy machine a pass that waits for its second thread can take ten times as long. The
/// slower choice is tried again now and then, ever more rarely while it loses.</remarks>
/// <param name="maximum">Most threads of a pass; 0 for torch's.</param>
/// <param name="ownsProcess">Whether torch's number of threads, which is the process's, may stay as a pass had it.</param>
internal sealed class PassThreads(int maximum, bool ownsProcess)
{
    private static readonly Lazy<int> Available = new(torch.get_num_threads);

    private readonly int _maximum = maximum > 0 ? maximum : Available.Value;

    private TimeSpan _away;

    // By the power of two of the pass's input pixels.
    private readonly Choice?[] _choices = new Choice?[64];

    /// <summary>Runs a pass over so many input pixels.</summary>
    public T Run<T>(long pixels, Func<int, T> pass)
    {
        var choice = _choices[BitOperations.Log2((ulong)pixels)] ??= new Choice();
        var alone = _maximum == 1 || choice.NextAlone();
        var threads = alone ? 1 : _maximum;
        using var scope = Use(threads);
        var (began, away) = (Stopwatch.GetTimestamp(), _away);
        var result = pass(threads);
        choice.Learn(alone, (Stopwatch.GetElapsedTime(began) - (_away - away)).TotalSeconds / pixels);
        return result;
    }

    /// <summary>Does what is not the running pass's, which may be passes of others.</summary>
    public void Aside(Action others)
    {
        var (began, away, threads) = (Stopwatch.GetTimestamp(), _away, torch.get_num_threads());
        others();
        _away = away + Stopwatch.GetElapsedTime(began);
        if (torch.get_num_threads() != threads)
        {
            torch.set_num_threads(threads);
        }
    }

    /// <summary>Torch gets one thread, or all, until this is disposed: for a few passes of any size, which teach nothing.</summary>
    public IDisposable ForTrial(bool alone) => Use(alone ? 1 : _maximum);

    private ThreadCountScope Use(int threads)
    {
        var scope = ownsProcess ? default : ThreadCountScope.Enter();
        if (torch.get_num_threads() != threads)
        {
            torch.set_num_threads(threads);
        }

        return scope;
    }

    /// <summary>Restores torch's number of threads once no pass of the process is running.</summary>
    private readonly struct ThreadCountScope : IDisposable
    {
        private static readonly Lock Gate = new();
        private static int _passes;
        private static int _before;

        private readonly bool _entered;

        private ThreadCountScope(bool entered) => _entered = entered;

        public static ThreadCountScope Enter()
        {
            lock (Gate)
            {
                _before = _passes++ == 0 ? torch.get_num_threads() : _before;
            }

            return new ThreadCountScope(entered: true);
        }

        public void Dispose()
        {
            if (!_entered)
            {
                return;
            }

            lock (Gate)
            {
                if (--_passes == 0 && torch.get_num_threads() != _before)
                {
                    torch.set_num_threads(_before);
                }
            }
        }
    }

    private sealed class Choice
    {
        private const int FirstInterval = 16;
        private const int LongestInterval = 4096;
        private const double Weight = 0.3;

        // Passes of a size before their times count: the first ones find no memory ready.
        private const int WarmUp = 2;

        private double _alone = double.NaN;
        private double _together = double.NaN;
        private int _passes;
        private int _untilTrial = FirstInterval;
        private int _interval = FirstInterval;

        public bool NextAlone()
        {
            _passes++;
            if (_passes <= WarmUp || double.IsNaN(_alone))
            {
                return true;
            }

            if (double.IsNaN(_together))
            {
                return false;
            }

            var aloneWins = _alone <= _together;
            if (--_untilTrial > 0)
            {
                return aloneWins;
            }

            _interval = Math.Min(2 * _interval, LongestInterval);
            _untilTrial = _interval;
            return !aloneWins;
        }

        public void Learn(bool alone, double secondsPerPixel)
        {
            if (_passes <= WarmUp)
            {
                return;
            }

            var aloneWon = _alone <= _together;
            if (alone)
            {
                _alone = double.IsNaN(_alone) ? secondsPerPixel : _alone + (Weight * (secondsPerPixel - _alone));
            }
            else
            {
                _together = double.IsNaN(_together) ? secondsPerPixel : _together + (Weight * (secondsPerPixel - _together));
            }

            if (aloneWon != (_alone <= _together))
            {
                _interval = _untilTrial = FirstInterval;
            }
        }
    }
}
