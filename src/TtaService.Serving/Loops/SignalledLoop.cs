namespace TtaService.Serving.Loops;

/// <summary>A loop that turns while there is something to do, and sleeps until it is signalled. What a turn throws is named and the loop goes on; when every turn fails, it is unwell. Thread-safe.</summary>
internal sealed class SignalledLoop(LoopBeat beat) : IDisposable
{
    /// <summary>Failed turns without one that went well, after which the loop is unwell.</summary>
    public const int FailuresToBeUnwell = 8;

    private static readonly TimeSpan AfterFailure = TimeSpan.FromMilliseconds(10);

    private readonly Lock _gate = new();
    private readonly SemaphoreSlim _signal = new(0, 1);
    private int _failuresInARow;

    /// <summary>There may be something to do.</summary>
    public void Signal()
    {
        lock (_gate)
        {
            if (_signal.CurrentCount == 0)
            {
                _signal.Release();
            }
        }
    }

    /// <summary>Waits for a signal within a turn; false when none came in time.</summary>
    public Task<bool> WaitAsync(TimeSpan time) => _signal.WaitAsync(time);

    /// <summary>Runs the loop.</summary>
    /// <param name="turn">Does what there is to do; false when there was nothing.</param>
    /// <param name="isOver">Asked when there is nothing to do; true ends the loop.</param>
    public async Task RunAsync(Func<Task<bool>> turn, Func<bool> isOver)
    {
        do
        {
            await _signal.WaitAsync().ConfigureAwait(false);
            while (await TryAsync(turn).ConfigureAwait(false))
            {
                beat.Turned();
            }
        }
        while (!isOver());
    }

    public void Dispose() => _signal.Dispose();

    private async Task<bool> TryAsync(Func<Task<bool>> turn)
    {
        try
        {
            var did = await turn().ConfigureAwait(false);
            if (did && Interlocked.Exchange(ref _failuresInARow, 0) >= FailuresToBeUnwell)
            {
                beat.Troubled(null);
            }

            return did;
        }
        catch (Exception defect)
        {
            beat.Failed("a turn", defect);
            if (Interlocked.Increment(ref _failuresInARow) >= FailuresToBeUnwell)
            {
                beat.Troubled($"every turn fails ({defect.GetType().Name})");
            }
        }

        // What failed once may fail at once again.
        await Task.Delay(AfterFailure, TimeProvider.System).ConfigureAwait(false);
        return true;
    }
}
