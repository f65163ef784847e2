using System.Buffers;

namespace TtaService.Serving.Frames;

/// <summary>Walks a lossless WebP's picture without making pixels and tells whether its codes are valid, and its pixels and its bits end together.</summary>
internal ref struct Vp8LWalk
{
    /// <summary>Bytes before what is coded.</summary>
    public const int HeaderBytes = 5;
    private const byte Signature = 0x2F;
    private const int Literals = 256;
    private const int Lengths = 24;
    private const int Distances = 40;
    private const int MaxCacheBits = 11;

    // libwebp writes 2,600 groups of codes at most; of more the walk says nothing, they would be an attack on its memory.
    private const int MostGroups = 4096;

    private Vp8LBits _bits;
    private string? _damage;
    private bool _givesUp;

    private Vp8LWalk(ReadOnlySpan<byte> data) => _bits = new Vp8LBits(data);

    private static ReadOnlySpan<byte> LengthOrder => [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];

    // Distances in the neighbourhood: rows above, and 8 less columns to the left.
    private static ReadOnlySpan<byte> Neighbours =>
    [
        0x18, 0x07, 0x17, 0x19, 0x28, 0x06, 0x27, 0x29, 0x16, 0x1a, 0x26, 0x2a, 0x38, 0x05, 0x37, 0x39, 0x15, 0x1b, 0x36, 0x3a, 0x25, 0x2b, 0x48, 0x04,
        0x47, 0x49, 0x14, 0x1c, 0x35, 0x3b, 0x46, 0x4a, 0x24, 0x2c, 0x58, 0x45, 0x4b, 0x34, 0x3c, 0x03, 0x57, 0x59, 0x13, 0x1d, 0x56, 0x5a, 0x23, 0x2d,
        0x44, 0x4c, 0x55, 0x5b, 0x33, 0x3d, 0x68, 0x02, 0x67, 0x69, 0x12, 0x1e, 0x66, 0x6a, 0x22, 0x2e, 0x54, 0x5c, 0x43, 0x4d, 0x65, 0x6b, 0x32, 0x3e,
        0x78, 0x01, 0x77, 0x79, 0x53, 0x5d, 0x11, 0x1f, 0x64, 0x6c, 0x42, 0x4e, 0x76, 0x7a, 0x21, 0x2f, 0x75, 0x7b, 0x31, 0x3f, 0x63, 0x6d, 0x52, 0x5e,
        0x00, 0x74, 0x7c, 0x41, 0x4f, 0x10, 0x20, 0x62, 0x6e, 0x30, 0x73, 0x7d, 0x51, 0x5f, 0x40, 0x72, 0x7e, 0x61, 0x6f, 0x50, 0x71, 0x7f, 0x60, 0x70,
    ];

    /// <summary>What is damaged; null when nothing is.</summary>
    /// <param name="data">The payload of a "VP8L" chunk.</param>
    public static string? FindDamage(ReadOnlySpan<byte> data)
    {
        if (data.Length <= HeaderBytes || data[0] != Signature)
        {
            return "its picture's header is broken";
        }

        var walk = new Vp8LWalk(data);
        walk._bits.Bits(8);
        var (width, height) = (walk._bits.Bits(14) + 1, walk._bits.Bits(14) + 1);
        // Whether alpha is used, and the version.
        walk._bits.Bits(1);
        if (walk._bits.Bits(3) != 0)
        {
            return "its picture's header is broken";
        }

        var whole = walk.ReadTransforms(ref width, height) && walk.WalkImage(width, height, isPicture: true, values: null);
        return walk._givesUp ? null
            : !whole ? walk._bits.Overrun ? "its data end before its picture" : walk._damage
            : walk._bits.IsAtEnd ? null : "its picture ends before its data";
    }

    private static int Parts(int size, int bits) => (size + (1 << bits) - 1) >> bits;

    private bool Broken(string damage)
    {
        _damage ??= damage;
        return false;
    }

    private bool ReadTransforms(ref int width, int height)
    {
        var seen = 0;
        while (_bits.Bits(1) != 0)
        {
            var kind = _bits.Bits(2);
            if ((seen & (1 << kind)) != 0)
            {
                return Broken("it has a transform twice");
            }

            seen |= 1 << kind;
            switch (kind)
            {
                // Prediction and colours: an image with a pixel a tile.
                case 0 or 1:
                    var tile = _bits.Bits(3) + 2;
                    if (!WalkImage(Parts(width, tile), Parts(height, tile), isPicture: false, values: null))
                    {
                        return false;
                    }

                    break;
                // A palette; few colours share a byte.
                case 3:
                    var colours = _bits.Bits(8) + 1;
                    if (!WalkImage(colours, 1, isPicture: false, values: null))
                    {
                        return false;
                    }

                    width = Parts(width, colours > 16 ? 0 : colours > 4 ? 1 : colours > 2 ? 2 : 3);
                    break;
            }
        }

        return true;
    }

    // An image of the format: the picture itself, or one that says something about it.
    private bool WalkImage(int width, int height, bool isPicture, uint[]? values)
    {
        var caches = _bits.Bits(1) != 0;
        var cacheBits = caches ? _bits.Bits(4) : 0;
        if (cacheBits > MaxCacheBits || (caches && cacheBits == 0))
        {
            return Broken("its colour cache is broken");
        }

        var (groups, tile) = (1, 0);
        uint[]? map = null;
        try
        {
            if (isPicture && _bits.Bits(1) != 0)
            {
                tile = _bits.Bits(3) + 2;
                var tiles = Parts(width, tile) * Parts(height, tile);
                map = ArrayPool<uint>.Shared.Rent(tiles);
                if (!WalkImage(Parts(width, tile), Parts(height, tile), isPicture: false, map))
                {
                    return false;
                }

                for (var i = 0; i < tiles; i++)
                {
                    map[i] = (map[i] >> 8) & 0xFFFF;
                    groups = Math.Max(groups, (int)map[i] + 1);
                }
            }

            if (groups > MostGroups)
            {
                _givesUp = true;
                return false;
            }

            var codes = new Group[groups];
            for (var i = 0; i < groups; i++)
            {
                if (ReadGroup(cacheBits) is not { } group)
                {
                    return false;
                }

                codes[i] = group;
            }

            return WalkPixels(width, height, codes, map, tile, cacheBits, values);
        }
        finally
        {
            if (map is not null)
            {
                ArrayPool<uint>.Shared.Return(map);
            }
        }
    }

    private Group? ReadGroup(int cacheBits)
    {
        var green = ReadCode(Literals + Lengths + (cacheBits > 0 ? 1 << cacheBits : 0));
        var red = green is null ? null : ReadCode(Literals);
        var blue = red is null ? null : ReadCode(Literals);
        var alpha = blue is null ? null : ReadCode(Literals);
        var distance = alpha is null ? null : ReadCode(Distances);
        return distance is null ? null : new Group(green!, red!, blue!, alpha!, distance);
    }

    private Vp8LCode? ReadCode(int symbols)
    {
        Span<byte> lengths = stackalloc byte[Literals + Lengths + (1 << MaxCacheBits)];
        lengths = lengths[..symbols];
        lengths.Clear();
        var valid = _bits.Bits(1) != 0 ? ReadSimpleLengths(lengths) : ReadLengths(lengths);
        var code = valid && !_bits.Overrun ? Vp8LCode.Of(lengths) : null;
        if (code is null)
        {
            Broken("a code is broken");
        }

        return code;
    }

    private bool ReadSimpleLengths(scoped Span<byte> lengths)
    {
        var two = _bits.Bits(1) != 0;
        var symbol = _bits.Bits(_bits.Bits(1) != 0 ? 8 : 1);
        var other = two ? _bits.Bits(8) : symbol;
        if (Math.Max(symbol, other) >= lengths.Length)
        {
            return false;
        }

        lengths[symbol] = lengths[other] = 1;
        return true;
    }

    private bool ReadLengths(scoped Span<byte> lengths)
    {
        Span<byte> own = stackalloc byte[LengthOrder.Length];
        own.Clear();
        var count = _bits.Bits(4) + 4;
        for (var i = 0; i < count; i++)
        {
            own[LengthOrder[i]] = (byte)_bits.Bits(3);
        }

        if (Vp8LCode.Of(own) is not { } code)
        {
            return false;
        }

        var most = _bits.Bits(1) != 0 ? 2 + _bits.Bits(2 + (2 * _bits.Bits(3))) : lengths.Length;
        if (most > lengths.Length)
        {
            return false;
        }

        byte last = 8;
        for (var symbol = 0; symbol < lengths.Length && most > 0; most--)
        {
            var length = _bits.Symbol(code);
            if (length < 16)
            {
                lengths[symbol++] = (byte)length;
                last = length > 0 ? (byte)length : last;
                continue;
            }

            var repeated = length switch { 16 => 3 + _bits.Bits(2), 17 => 3 + _bits.Bits(3), _ => 11 + _bits.Bits(7) };
            if (symbol + repeated > lengths.Length)
            {
                return false;
            }

            lengths.Slice(symbol, repeated).Fill(length == 16 ? last : (byte)0);
            symbol += repeated;
        }

        return true;
    }

    private bool WalkPixels(int width, int height, Group[] codes, uint[]? map, int tile, int cacheBits, uint[]? values)
    {
        var (at, end, wide) = (0, width * height, Parts(width, tile));
        var cache = values is null || cacheBits == 0 ? [] : new uint[1 << cacheBits];
        while (at < end)
        {
            // A group holds within a tile, whose columns are those of a row that begin it.
            var (row, column) = Math.DivRem(at, width);
            var group = map is null ? codes[0] : codes[map[((row >> tile) * wide) + (column >> tile)]];
            var until = map is null ? end : at + Math.Min(width - column, (1 << tile) - (column & ((1 << tile) - 1)));
            while (at < until)
            {
                var symbol = _bits.Symbol(group.Green);
                if (symbol < Literals)
                {
                    var (red, blue, alpha) = (_bits.Symbol(group.Red), _bits.Symbol(group.Blue), _bits.Symbol(group.Alpha));
                    Put(values, cache, cacheBits, at++, ((uint)alpha << 24) | ((uint)red << 16) | ((uint)symbol << 8) | (uint)blue);
                    continue;
                }

                if (symbol >= Literals + Lengths)
                {
                    Put(values, cache, cacheBits, at++, cache.Length > 0 ? cache[symbol - Literals - Lengths] : 0);
                    continue;
                }

                var length = ReadCount(symbol - Literals);
                var distance = ReadDistance(_bits.Symbol(group.Distance), width);
                if (distance > at || length > end - at)
                {
                    return Broken($"a copy at pixel {at} of {end} reaches beyond the picture");
                }

                for (var i = 0; i < length && values is not null; i++)
                {
                    Put(values, cache, cacheBits, at + i, values[at + i - distance]);
                }

                at += length;
            }

            if (_bits.Overrun)
            {
                return false;
            }
        }

        return !_bits.Overrun;
    }

    private static void Put(uint[]? values, uint[] cache, int cacheBits, int at, uint value)
    {
        if (values is null)
        {
            return;
        }

        values[at] = value;
        if (cacheBits > 0)
        {
            cache[(value * 0x1E35A7BD) >> (32 - cacheBits)] = value;
        }
    }

    private int ReadDistance(int symbol, int width)
    {
        var distance = ReadCount(symbol);
        if (distance > Neighbours.Length)
        {
            return distance - Neighbours.Length;
        }

        var neighbour = Neighbours[distance - 1];
        return Math.Max(1, ((neighbour >> 4) * width) + 8 - (neighbour & 0x0F));
    }

    private int ReadCount(int symbol)
    {
        if (symbol < 4)
        {
            return symbol + 1;
        }

        var bits = (symbol - 2) >> 1;
        return ((2 + (symbol & 1)) << bits) + _bits.Bits(bits) + 1;
    }

    /// <summary>The codes of a pixel's parts.</summary>
    private sealed record Group(Vp8LCode Green, Vp8LCode Red, Vp8LCode Blue, Vp8LCode Alpha, Vp8LCode Distance);
}
