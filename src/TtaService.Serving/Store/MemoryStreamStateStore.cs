using System.Collections.Concurrent;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>Keeps states while the process lives: for tests, and for streams that may start anew.</summary>
internal sealed class MemoryStreamStateStore(StoreOptions options, CheckpointSeal seal, TimeProvider clock) : LocalStreamStateStore(options, seal, clock)
{
    private readonly ConcurrentDictionary<(string Stream, long Number), byte[]> _files = new();

    public override bool OutlivesProcess => false;

    protected override void Put(string stream, long number, byte[] file) => _files[(stream, number)] = file;

    protected override byte[] Get(string stream, long number) => _files[(stream, number)];

    protected override CheckpointDescription Describe(string stream, long number)
    {
        var file = _files[(stream, number)];
        return CheckpointSeal.Describe(Safetensors.Read(file).Metadata, number, file.Length);
    }

    protected override void Remove(string stream, long number) => _files.TryRemove((stream, number), out _);

    // Nothing outside this process could look into it.
    protected override void SetAside(string stream, long number) => Remove(stream, number);

    protected override void MarkDropped(string stream, long number)
    {
        // The entry itself is the mark.
    }

    protected override void UnmarkDropped(string stream, long number)
    {
    }

    protected override void RemoveSetAside(string stream, long number) => Remove(stream, number);
}
