using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>Reads the entropy-coded bits of a JPEG up to the next marker. Past them it gives zeros and <see cref="Overrun"/> is set.</summary>
internal ref struct JpegBits
{
    private readonly ReadOnlySpan<byte> _data;
    private ulong _bits;
    private int _count;
    private int _missing;
    private int _at;

    public JpegBits(ReadOnlySpan<byte> data, int at)
    {
        _data = data;
        _at = at;
        Fill();
    }

    /// <summary>More bits were read than there are.</summary>
    public readonly bool Overrun => _count < _missing;

    /// <summary>Bits that are left of the byte that was read last.</summary>
    public readonly int Padding => Math.Max(0, _count - _missing) % 8;

    /// <summary>Whole bytes that were not read yet, up to where the reader has looked.</summary>
    private readonly int Unread => Math.Max(0, _count - _missing) / 8;

    /// <summary>Reads a symbol and passes over the value bits behind it, as many as its lower half says.</summary>
    /// <param name="table">The symbol's table.</param>
    /// <param name="value">Begins with the value bits.</param>
    /// <returns>The symbol; -1 when the bits are no code.</returns>
    public int SymbolAndValue(JpegHuffmanTable table, out ulong value)
    {
        Fill();
        int code = table.Look[(int)(_bits >> (64 - JpegHuffmanTable.LookBits))];
        if (code == 0 && (code = table.LookLonger((int)(_bits >> 48))) == 0)
        {
            value = 0;
            return -1;
        }

        value = _bits << (code >> 8);
        Skip((code >> 8) + (code & 0x0F));
        return code & 0xFF;
    }

    /// <summary>Reads a symbol.</summary>
    /// <returns>The symbol; -1 when the bits are no code.</returns>
    public int Symbol(JpegHuffmanTable table)
    {
        Fill();
        int code = table.Look[(int)(_bits >> (64 - JpegHuffmanTable.LookBits))];
        if (code == 0 && (code = table.LookLonger((int)(_bits >> 48))) == 0)
        {
            return -1;
        }

        Skip(code >> 8);
        return code & 0xFF;
    }

    /// <summary>The next bits as a number.</summary>
    /// <param name="count">0 to 16.</param>
    public int Bits(int count)
    {
        Fill();
        var value = count == 0 ? 0 : (int)(_bits >> (64 - count));
        Skip(count);
        return value;
    }

    /// <summary>Passes over bits.</summary>
    /// <param name="count">0 to 64.</param>
    public void Pass(int count)
    {
        for (; count > 16; count -= 16)
        {
            Bits(16);
        }

        Bits(count);
    }

    /// <summary>Ends the reading at the next marker.</summary>
    /// <returns>Where the marker stands, the end of the data when there is none, and the whole bytes before it that were not read.</returns>
    public (int Marker, int Unread) End()
    {
        var marker = _at;
        while (marker < _data.Length && !(_data[marker] == 0xFF && marker + 1 < _data.Length && _data[marker + 1] is not (0x00 or 0xFF)))
        {
            marker++;
        }

        var fill = marker;
        while (fill > _at && fill - 1 < _data.Length && _data[fill - 1] == 0xFF)
        {
            fill--;
        }

        return (marker, Unread + fill - _at);
    }

    private void Skip(int count)
    {
        _bits <<= count;
        _count -= count;
    }

    // At least 32 bits: the longest code with the longest value has 31.
    private void Fill()
    {
        if (_count >= 32)
        {
            return;
        }

        if (_at + sizeof(uint) <= _data.Length && BinaryPrimitives.ReadUInt32BigEndian(_data[_at..]) is var word && !HasOnes(word))
        {
            _bits |= (ulong)word << (32 - _count);
            _count += 32;
            _at += sizeof(uint);
            return;
        }

        for (; _count <= 56; _count += 8)
        {
            if (_at < _data.Length && _data[_at] != 0xFF)
            {
                _bits |= (ulong)_data[_at++] << (56 - _count);
            }
            else if (_at + 1 < _data.Length && _data[_at + 1] == 0x00)
            {
                _bits |= 0xFFUL << (56 - _count);
                _at += 2;
            }
            else
            {
                _missing += 8;
            }
        }
    }

    // Whether a byte is 0xFF, where a marker may begin.
    private static bool HasOnes(uint word) => ((~word - 0x01010101u) & word & 0x80808080u) != 0;
}
