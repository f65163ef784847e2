namespace TtaService.Serving.Store;

/// <summary>Who owns one stream in a store of this process, and how often it changed hands. Guarded by its entry.</summary>
internal sealed class Ownership
{
    private static readonly TimeSpan Window = TimeSpan.FromMinutes(1);

    private long _seen;
    private long _windowStart;
    private int _takeoversInWindow;
    private long _version = long.MinValue;

    public long Epoch { get; private set; }

    public string? Owner { get; private set; }

    public long Takeovers { get; private set; }

    /// <summary>Gives the claim an epoch past those that are on disk.</summary>
    public void GoOnFrom(long epoch) => Epoch = epoch;

    /// <summary>Gives the stream to an opener, or says why not.</summary>
    public StreamOpening Open(string stream, string owner, OpenPolicy policy, long epoch, StoreOptions options, TimeProvider clock)
    {
        var previous = Owner;
        if (previous is not null && previous != owner)
        {
            var silent = clock.GetElapsedTime(_seen);
            if (policy == OpenPolicy.Reject && silent < options.OwnerTimeout)
            {
                return new StreamOpening { Status = OpenStatus.Held, PreviousOwner = previous, Takeovers = Takeovers, RetryAfter = options.OwnerTimeout - silent };
            }

            if (_takeoversInWindow == 0 || clock.GetElapsedTime(_windowStart) >= Window)
            {
                (_windowStart, _takeoversInWindow) = (clock.GetTimestamp(), 0);
            }

            if (_takeoversInWindow >= options.MaxTakeoversPerMinute)
            {
                var left = Window - clock.GetElapsedTime(_windowStart);
                return new StreamOpening { Status = OpenStatus.TakeoverLimited, PreviousOwner = previous, Takeovers = Takeovers, RetryAfter = left };
            }

            _takeoversInWindow++;
            Takeovers++;
        }

        (Epoch, Owner, _seen, _version) = (epoch, owner, clock.GetTimestamp(), long.MinValue);
        return new StreamOpening { Status = OpenStatus.Owned, Claim = new StreamClaim(stream, Epoch, owner), PreviousOwner = previous, Takeovers = Takeovers };
    }

    public bool Holds(StreamClaim claim) => claim.Epoch == Epoch && claim.Owner == Owner;

    /// <summary>Whether a checkpoint of this version is later than the last one of this claim.</summary>
    public bool Accept(long version) => version > _version;

    public void Accepted(long version) => _version = version;

    public void Renew(TimeProvider clock) => _seen = clock.GetTimestamp();

    public void Release() => Owner = null;
}
