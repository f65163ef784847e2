using TtaService.Serving.Streams;

namespace TtaService.Serving.Front;

/// <summary>What is stored of a stream that is not in this process.</summary>
/// <param name="Method">Its method's name.</param>
/// <param name="Steps">Committed steps.</param>
/// <param name="LastSequence">The last sequence number committed.</param>
/// <param name="Saved">When it was stored.</param>
/// <param name="Owner">The replica that has it open; null when none has.</param>
public sealed record StoredSummary(string Method, long Steps, ulong LastSequence, DateTimeOffset Saved, string? Owner);

/// <summary>A stream of the list: one of the two is set.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Model">Its model's name; empty when that is not served here.</param>
/// <param name="Here">The stream when it is in this process.</param>
/// <param name="Stored">What is known of it when it is not.</param>
public sealed record StreamSummary(string Name, string Model, StreamDescription? Here, StoredSummary? Stored);

/// <summary>A page of the list.</summary>
/// <param name="Streams">In the order of their names.</param>
/// <param name="More">Whether further streams follow.</param>
/// <param name="Warning">Why streams may be missing; null when none are.</param>
public sealed record StreamListing(IReadOnlyList<StreamSummary> Streams, bool More, string? Warning);

/// <summary>A stored state that a stream can be rolled back to.</summary>
public sealed record KeptCheckpoint(long Number, long Step, ulong Sequence, DateTimeOffset Saved, long Bytes, string Method, string Owner);

/// <summary>Operates streams, in this process and in the store, for whatever protocol. What is refused is a value. Thread-safe.</summary>
public interface IStreamOperations
{
    /// <summary>Creates or, as the request says, finds a stream without holding it.</summary>
    Task<Outcome<StreamDescription>> CreateAsync(StreamRequest request);

    /// <summary>A stream, brought back from the store when it is not here.</summary>
    Task<Outcome<StreamDescription>> GetAsync(StreamKey stream);

    /// <summary>Up to <paramref name="count"/> streams in the order of their names, from the first name after <paramref name="after"/>.</summary>
    /// <param name="model">Only streams of this model; empty for all.</param>
    /// <param name="after">The last name of the page before; empty for the first page.</param>
    /// <param name="count">At least 1.</param>
    Task<Outcome<StreamListing>> ListAsync(string model, string after, int count);

    /// <summary>Changes what may be set while the state stays.</summary>
    Task<Outcome<StreamDescription>> UpdateAsync(StreamKey stream, Func<StreamSettings, StreamSettings> change);

    /// <summary>Back to the source statistics; sequence numbers go on.</summary>
    Task<Outcome<StreamDescription>> ResetAsync(StreamKey stream);

    /// <summary>Forgets a stream, here and in the store. Returns what it was called.</summary>
    Task<Outcome<string>> DeleteAsync(StreamKey stream);

    /// <summary>The state between two steps, as safetensors.</summary>
    Task<Outcome<byte[]>> ExportAsync(StreamKey stream);

    /// <summary>Creates a stream that continues from a snapshot.</summary>
    Task<Outcome<StreamDescription>> ImportAsync(StreamKey stream, string model, ReadOnlyMemory<byte> snapshot);

    /// <summary>Creates a stream that starts from a copy of another's state.</summary>
    Task<Outcome<StreamDescription>> ForkAsync(StreamKey source, StreamKey stream);

    /// <summary>The stored states that are kept of a stream, newest first.</summary>
    Task<Outcome<IReadOnlyList<KeptCheckpoint>>> CheckpointsAsync(StreamKey stream);

    /// <summary>Back to a stored state; sequence numbers and kept answers go on.</summary>
    /// <param name="stream">The stream.</param>
    /// <param name="checkpoint">Its number; 0 for the newest.</param>
    Task<Outcome<StreamDescription>> RollBackAsync(StreamKey stream, long checkpoint);
}
