namespace TtaService.Serving.Streams;

/// <summary>Bytes that the kept answers of all streams may take together. Thread-safe.</summary>
internal sealed class ReplyBudget(long limit)
{
    private long _taken;

    public long Taken => Volatile.Read(ref _taken);

    public bool TryTake(long bytes)
    {
        if (Interlocked.Add(ref _taken, bytes) <= limit)
        {
            return true;
        }

        GiveBack(bytes);
        return false;
    }

    public void GiveBack(long bytes) => Interlocked.Add(ref _taken, -bytes);
}
