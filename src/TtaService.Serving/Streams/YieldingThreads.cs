using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace TtaService.Serving.Streams;

/// <summary>Runs costly work on threads of its own that give way to all others of the process, and end when there is nothing to do for long.</summary>
/// <remarks>
/// A thread hands its priority on to those that it starts, and only a privileged process may raise one again. So nothing but the work runs on them:
/// what follows it, which may make the pool grow, runs on a thread of the usual priority.
/// </remarks>
internal sealed partial class YieldingThreads(string name)
{
    // A third of the weight of the others: what is costly goes on on a busy machine, too.
    private const int Nicer = 5;

    private static readonly TimeSpan Idle = TimeSpan.FromSeconds(10);

    private readonly Lock _gate = new();
    private readonly BlockingCollection<(Action Work, Action After)> _work = [];
    private readonly BlockingCollection<Action> _done = [];
    private int _pending;
    private int _workers;
    private bool _hasFollower;

    /// <summary>Runs work as soon as it comes, on a further thread when all are busy, and behind it what follows. Neither throws.</summary>
    public void Run(Action work, Action after)
    {
        lock (_gate)
        {
            _work.Add((work, after));
            if (++_pending > _workers)
            {
                _workers++;
                Start(name, Work);
            }

            if (!_hasFollower)
            {
                _hasFollower = true;
                Start($"{name}-done", Follow);
            }
        }
    }

    private static void Start(string name, ThreadStart loop) => new Thread(loop) { IsBackground = true, Name = name }.UnsafeStart();

    private void Work()
    {
        GiveWay();
        while (true)
        {
            if (_work.TryTake(out var next, Idle))
            {
                next.Work();
                _done.Add(next.After);
                continue;
            }

            lock (_gate)
            {
                if (_work.Count == 0)
                {
                    _workers--;
                    return;
                }
            }
        }
    }

    private void Follow()
    {
        while (true)
        {
            if (_done.TryTake(out var after, Idle))
            {
                lock (_gate)
                {
                    _pending--;
                }

                after();
                continue;
            }

            lock (_gate)
            {
                if (_pending == 0)
                {
                    _hasFollower = false;
                    return;
                }
            }
        }
    }

    private static void GiveWay()
    {
        if (OperatingSystem.IsLinux())
        {
            // Of the calling thread alone; where it is not allowed the work has the usual priority.
            _ = Nice(Nicer);
        }
        else
        {
            Thread.CurrentThread.Priority = ThreadPriority.BelowNormal;
        }
    }

    [LibraryImport("libc", EntryPoint = "nice")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Nice(int increment);
}
