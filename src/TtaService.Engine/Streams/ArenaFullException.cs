namespace TtaService.Engine.Streams;

/// <summary>No room for another resident stream. Evict one, or raise the limit.</summary>
public sealed class ArenaFullException(int residentStreams, long residentBytes, long limitBytes)
    : Exception($"the arena holds {residentStreams} streams in {residentBytes} bytes and takes at most {limitBytes} bytes");
