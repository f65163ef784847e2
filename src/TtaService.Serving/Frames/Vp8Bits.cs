using System.Numerics;

namespace TtaService.Serving.Frames;

/// <summary>VP8's arithmetic decoder over one partition (RFC 6386, section 7). Past its end it reads zeros and <see cref="Overrun"/> is set.</summary>
/// <param name="at">Where the partition begins in the data that every call is given.</param>
/// <param name="end">Where it ends.</param>
internal struct Vp8Bits(int at, int end)
{
    // What encoders flush at most: libwebp 23 bits, libvpx and the specification's encoder 32, both to whole bytes.
    private const int MostLeft = 48;

    private ulong _value;
    private int _bits = -8;
    private uint _range = 254;
    private int _at = at;
    private int _beyond;

    /// <summary>More was read than there is.</summary>
    public readonly bool Overrun => Left < 0;

    // Bits that were not used. The value that is compared holds eight.
    private readonly int Left => (8 * (end - _at - _beyond)) + _bits + 8;

    /// <summary>Whether what was read is all that was written: encoders flush with zeros, behind which nothing is left over.
    /// A decoder that went astray ends anywhere, with anything.</summary>
    public readonly bool IsAtEnd(ReadOnlySpan<byte> data) => _value == 0 && Left is >= 0 and <= MostLeft && !data[_at..end].ContainsAnyExcept((byte)0);

    /// <summary>One bit.</summary>
    /// <param name="data">The data.</param>
    /// <param name="probability">That it is 0, in 256ths.</param>
    public int Bit(ReadOnlySpan<byte> data, int probability)
    {
        if (_bits < 0)
        {
            Fill(data);
        }

        // The range is kept less one.
        var split = (_range * (uint)probability) >> 8;
        var (range, bit) = (split + 1, 0);
        if ((_value >> _bits) > split)
        {
            range = _range - split;
            _value -= (ulong)(split + 1) << _bits;
            bit = 1;
        }

        var shift = 7 ^ BitOperations.Log2(range);
        _bits -= shift;
        _range = (range << shift) - 1;
        return bit;
    }

    /// <summary>Bits that are as often 0 as 1, as a number.</summary>
    public int Bits(ReadOnlySpan<byte> data, int count)
    {
        var value = 0;
        for (; count > 0; count--)
        {
            value = (value << 1) | Bit(data, 128);
        }

        return value;
    }

    private void Fill(ReadOnlySpan<byte> data)
    {
        for (; _bits <= 40; _bits += 8)
        {
            _value <<= 8;
            if (_at < end)
            {
                _value |= data[_at++];
            }
            else
            {
                _beyond++;
            }
        }
    }
}
