using System.Collections.Concurrent;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>Keeps checkpoints while the process lives: for tests, and for streams that may start anew.</summary>
internal sealed class MemoryBlobs : ICheckpointBlobs
{
    private readonly ConcurrentDictionary<(string Stream, long Number), byte[]> _files = new();

    public bool OutlivesProcess => false;

    public void Put(string stream, long number, byte[] file) => _files[(stream, number)] = file;

    public byte[] Get(string stream, long number) => _files[(stream, number)];

    public CheckpointDescription? Describe(string stream, long number)
    {
        var file = _files[(stream, number)];
        return CheckpointSeal.Describe(Safetensors.Read(file).Metadata, number, file.Length);
    }

    public void Remove(string stream, long number) => _files.TryRemove((stream, number), out _);

    // Nothing outside this process could look into it.
    public void SetAside(string stream, long number) => Remove(stream, number);

    public void MarkDropped(string stream, long number)
    {
        // The entry itself is the mark.
    }

    public void UnmarkDropped(string stream, long number)
    {
    }

    public void RemoveSetAside(string stream, long number) => Remove(stream, number);

    public IEnumerable<FoundBlob> Find() => [];

    public void Dispose()
    {
        // The collector's.
    }
}
