namespace TtaService.Serving.Store;

/// <summary>A replica's right to write a stream's state. It holds until another opens the stream.</summary>
/// <param name="Stream">The stream's key.</param>
/// <param name="Epoch">Rises with every opening.</param>
/// <param name="Owner">The replica.</param>
internal readonly record struct StreamClaim(string Stream, long Epoch, string Owner);

/// <summary>A claim that no longer holds.</summary>
/// <param name="Claim">The claim.</param>
/// <param name="Epoch">The stream's epoch now; 0 when the store knows nothing of the stream.</param>
/// <param name="Owner">Who owns the stream now; null when nobody does.</param>
internal readonly record struct FencedClaim(StreamClaim Claim, long Epoch, string? Owner);
