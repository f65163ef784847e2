namespace TtaService.Serving.Store;

/// <summary>Blobs whose place may fail: what the system says of it is a store that does not serve.</summary>
internal sealed class GuardedBlobs(ICheckpointBlobs blobs) : ICheckpointBlobs
{
    public bool OutlivesProcess => blobs.OutlivesProcess;

    public IEnumerable<FoundBlob> Find() => blobs.Find();

    public void Put(string stream, long number, byte[] file) => Guarded(() => blobs.Put(stream, number, file));

    public byte[] Get(string stream, long number) => Guarded(() => blobs.Get(stream, number));

    public CheckpointDescription? Describe(string stream, long number) => Guarded(() => blobs.Describe(stream, number));

    public void Remove(string stream, long number) => Guarded(() => blobs.Remove(stream, number));

    public void SetAside(string stream, long number) => Guarded(() => blobs.SetAside(stream, number));

    public void RemoveSetAside(string stream, long number) => Guarded(() => blobs.RemoveSetAside(stream, number));

    public void MarkDropped(string stream, long number) => Guarded(() => blobs.MarkDropped(stream, number));

    public void UnmarkDropped(string stream, long number) => Guarded(() => blobs.UnmarkDropped(stream, number));

    public void Dispose() => blobs.Dispose();

    private static void Guarded(Action access) => Guarded(() =>
    {
        access();
        return true;
    });

    private static T Guarded<T>(Func<T> access)
    {
        try
        {
            return access();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreUnavailableException($"the store's folder can't be used: {e.Message}", e);
        }
    }
}
