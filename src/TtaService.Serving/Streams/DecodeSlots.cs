namespace TtaService.Serving.Streams;

/// <summary>Bounds how many steps are decoded at a time, so that decoding leaves processors to the device thread and the network.</summary>
internal sealed class DecodeSlots(BatchingOptions options) : IDisposable
{
    private readonly SemaphoreSlim _slots = new(options.DecodeConcurrency > 0 ? options.DecodeConcurrency : Environment.ProcessorCount);

    public Task EnterAsync() => _slots.WaitAsync();

    public void Leave() => _slots.Release();

    public void Dispose() => _slots.Dispose();
}
