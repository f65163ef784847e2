namespace TtaService.Serving.Frames;

/// <summary>A Huffman table of a JPEG (ITU-T T.81, annex C). Immutable.</summary>
internal sealed class JpegHuffmanTable
{
    /// <summary>Bits of <see cref="Look"/>: longer codes are rare.</summary>
    public const int LookBits = 10;

    private const int MaxLength = 16;

    private readonly byte[] _symbols;
    private readonly int[] _end = new int[MaxLength + 1];
    private readonly int[] _offset = new int[MaxLength + 1];

    private JpegHuffmanTable(byte[] symbols) => _symbols = symbols;

    /// <summary>By the next bits: the code's length in the upper byte, its symbol in the lower; 0 for a code that is longer, or none.</summary>
    public ushort[] Look { get; } = new ushort[1 << LookBits];

    /// <summary>How many there are.</summary>
    public int Symbols => _symbols.Length;

    /// <summary>The symbol whose code is all zeros: what zeroed bytes decode to.</summary>
    public int ZeroSymbol => _symbols.Length > 0 ? _symbols[0] : -1;

    /// <summary>The tables that a camera means when it sends none (annex K): DC and AC of brightness, DC and AC of colour.</summary>
    public static (JpegHuffmanTable Dc, JpegHuffmanTable Ac)[] Standard { get; } =
    [
        (Of("00010501010101010100000000000000", "000102030405060708090A0B"),
        Of("0002010303020403050504040000017D", "01020300041105122131410613516107227114328191A1082342B1C11552D1F02433627282090A161718191A25262728292A34353637"
            + "38393A434445464748494A535455565758595A636465666768696A737475767778797A838485868788898A92939495969798999AA2A3"
            + "A4A5A6A7A8A9AAB2B3B4B5B6B7B8B9BAC2C3C4C5C6C7C8C9CAD2D3D4D5D6D7D8D9DAE1E2E3E4E5E6E7E8E9EAF1F2F3F4F5F6F7F8F9FA")),
        (Of("00030101010101010101010000000000", "000102030405060708090A0B"),
        Of("00020102040403040705040400010277", "000102031104052131061241510761711322328108144291A1B1C109233352F0156272D10A162434E125F11718191A262728292A3536"
            + "3738393A434445464748494A535455565758595A636465666768696A737475767778797A82838485868788898A92939495969798999A"
            + "A2A3A4A5A6A7A8A9AAB2B3B4B5B6B7B8B9BAC2C3C4C5C6C7C8C9CAD2D3D4D5D6D7D8D9DAE2E3E4E5E6E7E8E9EAF2F3F4F5F6F7F8F9FA")),
    ];

    /// <summary>Null when the numbers make no code.</summary>
    /// <param name="counts">Codes by length, 16 of them.</param>
    /// <param name="symbols">By code; may be longer than the counts say.</param>
    public static JpegHuffmanTable? Read(ReadOnlySpan<byte> counts, ReadOnlySpan<byte> symbols)
    {
        var total = 0;
        foreach (var count in counts)
        {
            total += count;
        }

        if (total > 256 || total > symbols.Length)
        {
            return null;
        }

        var table = new JpegHuffmanTable(symbols[..total].ToArray());
        var (code, index) = (0, 0);
        for (var length = 1; length <= MaxLength; length++, code <<= 1)
        {
            table._offset[length] = index - code;
            for (var i = 0; i < counts[length - 1]; i++, code++, index++)
            {
                if (code >= 1 << length)
                {
                    return null;
                }

                if (length <= LookBits)
                {
                    table.Look.AsSpan(code << (LookBits - length), 1 << (LookBits - length)).Fill((ushort)((length << 8) | symbols[index]));
                }
            }

            table._end[length] = code;
        }

        return table;
    }

    /// <summary>The length and the symbol of a code past <see cref="LookBits"/>, as <see cref="Look"/> has them; 0 when the bits are no code.</summary>
    /// <param name="bits">The next 16.</param>
    public int LookLonger(int bits)
    {
        for (var length = LookBits + 1; length <= MaxLength; length++)
        {
            var code = bits >> (MaxLength - length);
            if (code < _end[length] && code + _offset[length] is >= 0 and var index && index < _symbols.Length)
            {
                return (length << 8) | _symbols[index];
            }
        }

        return 0;
    }

    /// <summary>Bits of a symbol's code; the longest possible when it has none.</summary>
    public int LengthOf(int symbol)
    {
        var index = Array.IndexOf(_symbols, (byte)symbol);
        for (var length = 1; index >= 0 && length <= MaxLength; length++)
        {
            if (index < _end[length] + _offset[length])
            {
                return length;
            }
        }

        return MaxLength;
    }

    private static JpegHuffmanTable Of(string counts, string symbols) => Read(Convert.FromHexString(counts), Convert.FromHexString(symbols))!;
}
