namespace TtaService.Serving.Frames;

/// <summary>Reads the bits of a lossless WebP, lowest first. Past their end it gives zeros and <see cref="Overrun"/> is set.</summary>
/// <param name="data">The payload of a "VP8L" chunk.</param>
internal ref struct Vp8LBits(ReadOnlySpan<byte> data)
{
    // Of 64 bits that an encoder may write at once.
    private const int MostLeft = 63;

    private readonly ReadOnlySpan<byte> _data = data;
    private ulong _bits;
    private int _count;
    private int _at;
    private int _beyond;

    /// <summary>More bits were read than there are.</summary>
    public readonly bool Overrun => Left < 0;

    /// <summary>Whether nothing is left but zeros to the end of a byte or a word.</summary>
    public readonly bool IsAtEnd => Left is >= 0 and <= MostLeft && _bits == 0 && !_data[_at..].ContainsAnyExcept((byte)0);

    private readonly long Left => (8L * (_data.Length - _at - _beyond)) + _count;

    /// <summary>The next bits as a number.</summary>
    /// <param name="count">0 to 24.</param>
    public int Bits(int count)
    {
        Fill();
        var value = (int)(_bits & ((1UL << count) - 1));
        Skip(count);
        return value;
    }

    /// <summary>Reads a symbol.</summary>
    /// <param name="code">Its code.</param>
    public int Symbol(Vp8LCode code)
    {
        Fill();
        int entry = code.Look[(int)(_bits & (Vp8LCode.LookSize - 1))];
        if (entry == Vp8LCode.Longer)
        {
            entry = code.LookLonger((uint)_bits);
        }

        Skip(entry >> Vp8LCode.SymbolBits);
        return entry & ((1 << Vp8LCode.SymbolBits) - 1);
    }

    private void Skip(int count)
    {
        _bits >>= count;
        _count -= count;
    }

    // At least 24 bits: codes have 15 at most.
    private void Fill()
    {
        if (_count >= 24)
        {
            return;
        }

        for (; _count <= 48; _count += 8)
        {
            if (_at < _data.Length)
            {
                _bits |= (ulong)_data[_at++] << _count;
            }
            else
            {
                _beyond++;
            }
        }
    }
}
