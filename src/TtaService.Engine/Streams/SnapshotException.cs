namespace TtaService.Engine.Streams;

/// <summary>A snapshot that can't be used here: cut short, of another model, of another format. The message says which.</summary>
public sealed class SnapshotException(string message) : Exception(message);
