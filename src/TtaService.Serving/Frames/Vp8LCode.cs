namespace TtaService.Serving.Frames;

/// <summary>A prefix code of a lossless WebP. Immutable.</summary>
internal sealed class Vp8LCode
{
    /// <summary>Entries of <see cref="Look"/>: longer codes are rare.</summary>
    public const int LookSize = 1 << LookBits;

    /// <summary>Bits of a symbol in an entry; its length stands above them.</summary>
    public const int SymbolBits = 12;

    /// <summary>An entry of codes that are longer.</summary>
    public const ushort Longer = ushort.MaxValue;

    /// <summary>Bits of a code at most.</summary>
    public const int MaxLength = 15;

    private const int LookBits = 8;

    private readonly ushort[] _symbols = [];
    private readonly ushort[] _counts = [];

    private Vp8LCode(int symbol) => Look = Enumerable.Repeat((ushort)symbol, LookSize).ToArray();

    private Vp8LCode(ushort[] symbols, ushort[] counts) => (_symbols, _counts, Look) = (symbols, counts, new ushort[LookSize]);

    /// <summary>By the next bits: the code's length and its symbol, or <see cref="Longer"/>.</summary>
    public ushort[] Look { get; }

    /// <summary>Null when the lengths make no whole code.</summary>
    /// <param name="lengths">By symbol; 0 for one that does not occur.</param>
    public static Vp8LCode? Of(ReadOnlySpan<byte> lengths)
    {
        var counts = new ushort[MaxLength + 1];
        foreach (var length in lengths)
        {
            counts[length]++;
        }

        var used = lengths.Length - counts[0];
        counts[0] = 0;
        if (used <= 1)
        {
            // A single symbol takes no bits.
            return used == 1 ? new Vp8LCode(lengths.IndexOfAnyExcept((byte)0)) : null;
        }

        var symbols = new ushort[used];
        Span<ushort> next = stackalloc ushort[MaxLength + 1];
        var open = 1;
        for (var length = 1; length <= MaxLength; length++)
        {
            next[length] = (ushort)(next[length - 1] + counts[length - 1]);
            open = (2 * open) - counts[length];
            if (open < 0)
            {
                return null;
            }
        }

        if (open != 0)
        {
            return null;
        }

        for (var symbol = 0; symbol < lengths.Length; symbol++)
        {
            if (lengths[symbol] > 0)
            {
                symbols[next[lengths[symbol]]++] = (ushort)symbol;
            }
        }

        var code = new Vp8LCode(symbols, counts);
        for (var bits = 0u; bits < LookSize; bits++)
        {
            code.Look[bits] = code.Find(bits, LookBits);
        }

        return code;
    }

    /// <summary>The entry of a code past <see cref="Look"/>.</summary>
    /// <param name="bits">The next 15.</param>
    public ushort LookLonger(uint bits) => Find(bits, MaxLength);

    // Codes of a length are consecutive numbers, highest bit first.
    private ushort Find(uint bits, int longest)
    {
        var (code, first, index) = (0, 0, 0);
        for (var length = 1; length <= longest; length++, bits >>= 1)
        {
            code = (code << 1) | (int)(bits & 1);
            first <<= 1;
            if (code - first < _counts[length])
            {
                return (ushort)((length << SymbolBits) | _symbols[index + code - first]);
            }

            first += _counts[length];
            index += _counts[length];
        }

        return Longer;
    }
}
