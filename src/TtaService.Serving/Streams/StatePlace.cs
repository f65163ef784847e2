using TtaService.Engine.Streams;

namespace TtaService.Serving.Streams;

/// <summary>Where a stream's state is: in the arena, beside it, or in the store only.</summary>
/// <remarks>Belongs to the engine's thread; others may look whether there is a state, and whether it is in the arena.</remarks>
internal sealed class StatePlace
{
    /// <summary>Null after release.</summary>
    public StreamState? State { get; set; }

    /// <summary>The state's snapshot while it is not in the arena.</summary>
    public byte[]? Cold { get; set; }

    /// <summary>The stream's place among the resident ones.</summary>
    public LinkedListNode<StreamSession>? Resident { get; set; }
}
