using System.Buffers;
using System.Buffers.Binary;

namespace TtaService.Serving.Frames;

/// <summary>Walks a lossy WebP's picture, a key frame of VP8, without making pixels, and tells whether its partitions end where they should.</summary>
/// <remarks>
/// Arithmetic codes have no checksum, but a decoder that went astray does not find back:
/// it ends at another place than the encoder, and what is left there is not what encoders flush with.
/// </remarks>
internal ref struct Vp8Walk
{
    /// <summary>Bytes before what is coded.</summary>
    public const int HeaderBytes = 10;

    // What a macroblock's modes say of its coefficients.
    private const byte InParts = 1;
    private const byte Skipped = 2;

    // Kinds of blocks: brightness without its means, the means, colours, brightness with them.
    private const int WithoutMeans = 0;
    private const int Means = Vp8Tables.Kind;
    private const int Colours = 2 * Vp8Tables.Kind;
    private const int WithMeans = 3 * Vp8Tables.Kind;

    private readonly ReadOnlySpan<byte> _data;
    private readonly int _rest;
    private readonly int _wide;
    private readonly int _high;
    private readonly byte[] _probabilities = (byte[])Vp8Tables.Coefficients.Clone();
    private readonly byte[] _segments = [byte.MaxValue, byte.MaxValue, byte.MaxValue];
    private Vp8Bits _first;
    private bool _hasSegmentMap;
    private int _skip;

    private Vp8Walk(ReadOnlySpan<byte> data, int rest)
    {
        _data = data;
        (_rest, _first) = (rest, new Vp8Bits(HeaderBytes, rest));
        (_wide, _high) = (Macroblocks(data[6..]), Macroblocks(data[8..]));
    }

    // The tree of a part's modes: a leaf is minus the mode.
    private static ReadOnlySpan<sbyte> ModeTree => [0, 1, -1, 2, -2, 3, 4, 6, -3, 5, -4, -5, -6, 7, -7, 8, -8, -9];

    // The band of a coefficient by its place in the scan, and of one behind the last.
    private static ReadOnlySpan<byte> Bands => [0, 1, 2, 3, 6, 4, 5, 6, 6, 6, 6, 6, 6, 6, 6, 7, 0];

    // Further bits of large values.
    private static ReadOnlySpan<byte> Large3 => [173, 148, 140];

    private static ReadOnlySpan<byte> Large4 => [176, 155, 140, 135];

    private static ReadOnlySpan<byte> Large5 => [180, 157, 141, 134, 130];

    private static ReadOnlySpan<byte> Large6 => [254, 254, 243, 230, 196, 177, 153, 140, 133, 130, 129];

    /// <summary>What is damaged; null when nothing is.</summary>
    /// <param name="data">The payload of a "VP8 " chunk.</param>
    public static string? FindDamage(ReadOnlySpan<byte> data)
    {
        if (data.Length < HeaderBytes || (data[0] & 1) != 0 || !data[3..].StartsWith((ReadOnlySpan<byte>)[0x9D, 0x01, 0x2A]))
        {
            return "its picture's header is broken";
        }

        var length = (data[0] | (data[1] << 8) | (data[2] << 16)) >> 5;
        return length > data.Length - HeaderBytes ? "its first partition is longer than its picture" : new Vp8Walk(data, HeaderBytes + length).Run();
    }

    // Above a side are two bits of how it is to be scaled.
    private static int Macroblocks(ReadOnlySpan<byte> side) => ((BinaryPrimitives.ReadUInt16LittleEndian(side) & 0x3FFF) + 15) / 16;

    private string? Run()
    {
        // Colour space and clamping.
        _first.Bits(_data, 2);
        ReadSegments();
        ReadFilter();
        var partitions = new Vp8Bits[1 << _first.Bits(_data, 2)];
        ReadQuantizers();
        ReadProbabilities();
        var modes = ArrayPool<byte>.Shared.Rent(_wide * _high);
        try
        {
            ReadModes(modes);
            return _first.IsAtEnd(_data) ? FindPartitions(partitions) ?? WalkPartitions(partitions, modes) : "its first partition does not end where it should";
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(modes);
        }
    }

    // Section 9.3.
    private void ReadSegments()
    {
        if (_first.Bits(_data, 1) == 0)
        {
            return;
        }

        _hasSegmentMap = _first.Bits(_data, 1) != 0;
        if (_first.Bits(_data, 1) != 0)
        {
            // Whether values are differences, four of quantizers and four of filters.
            _first.Bits(_data, 1);
            PassOptional(4, 7);
            PassOptional(4, 6);
        }

        for (var i = 0; i < _segments.Length && _hasSegmentMap; i++)
        {
            _segments[i] = _first.Bits(_data, 1) != 0 ? (byte)_first.Bits(_data, 8) : byte.MaxValue;
        }
    }

    // Section 9.6: kind, level, sharpness, and differences of levels.
    private void ReadFilter()
    {
        _first.Bits(_data, 10);
        if (_first.Bits(_data, 1) != 0 && _first.Bits(_data, 1) != 0)
        {
            PassOptional(8, 6);
        }
    }

    private void ReadQuantizers()
    {
        _first.Bits(_data, 7);
        PassOptional(5, 4);
    }

    // Numbers with a sign that are there or not.
    private void PassOptional(int count, int bits)
    {
        for (; count > 0; count--)
        {
            _first.Bits(_data, _first.Bits(_data, 1) != 0 ? bits + 1 : 0);
        }
    }

    // Section 9.9 and 9.11.
    private void ReadProbabilities()
    {
        // Whether they are kept for the next frame.
        _first.Bits(_data, 1);
        for (var i = 0; i < _probabilities.Length; i++)
        {
            if (_first.Bit(_data, Vp8Tables.Changes[i]) != 0)
            {
                _probabilities[i] = (byte)_first.Bits(_data, 8);
            }
        }

        _skip = _first.Bits(_data, 1) != 0 ? _first.Bits(_data, 8) : -1;
    }

    // Section 11: what is asked later on is whether a macroblock is coded in parts and whether it has coefficients.
    private void ReadModes(byte[] modes)
    {
        var above = new byte[4 * _wide];
        Span<byte> left = stackalloc byte[4];
        for (var at = 0; at < _wide * _high && !_first.Overrun; at++)
        {
            var column = at % _wide;
            if (column == 0)
            {
                left.Clear();
            }

            if (_hasSegmentMap)
            {
                _first.Bit(_data, _first.Bit(_data, _segments[0]) == 0 ? _segments[1] : _segments[2]);
            }

            var skipped = _skip >= 0 && _first.Bit(_data, _skip) != 0 ? Skipped : 0;
            var parts = above.AsSpan(4 * column, 4);
            if (_first.Bit(_data, 145) != 0)
            {
                var mode = _first.Bit(_data, 156) != 0 ? (byte)(_first.Bit(_data, 128) != 0 ? 1 : 3) : (byte)(_first.Bit(_data, 163) != 0 ? 2 : 0);
                parts.Fill(mode);
                left.Fill(mode);
                modes[at] = (byte)skipped;
            }
            else
            {
                ReadPartModes(parts, left);
                modes[at] = (byte)(skipped | InParts);
            }

            // Of colours: even, vertical, horizontal or both.
            if (_first.Bit(_data, 142) != 0 && _first.Bit(_data, 114) != 0)
            {
                _first.Bit(_data, 183);
            }
        }
    }

    private void ReadPartModes(scoped Span<byte> above, scoped Span<byte> left)
    {
        for (var y = 0; y < 4; y++)
        {
            var mode = left[y];
            for (var x = 0; x < 4; x++)
            {
                var tree = ((above[x] * Vp8Tables.Modes) + mode) * (Vp8Tables.Modes - 1);
                int node = ModeTree[_first.Bit(_data, Vp8Tables.PartModes[tree])];
                while (node > 0)
                {
                    node = ModeTree[(2 * node) + _first.Bit(_data, Vp8Tables.PartModes[tree + node])];
                }

                mode = (byte)-node;
                above[x] = mode;
            }

            left[y] = mode;
        }
    }

    // Section 9.5: their sizes but for the last one's stand before them.
    private readonly string? FindPartitions(Vp8Bits[] partitions)
    {
        var at = _rest + (3 * (partitions.Length - 1));
        for (var i = 0; i < partitions.Length; i++)
        {
            var size = _rest + (3 * i);
            var last = i == partitions.Length - 1;
            var end = last ? _data.Length : size + 3 > _data.Length ? int.MaxValue : at + (_data[size] | (_data[size + 1] << 8) | (_data[size + 2] << 16));
            if (end > _data.Length || at > end)
            {
                return $"its partition {i + 1} of {partitions.Length} is longer than its picture";
            }

            partitions[i] = new Vp8Bits(at, end);
            at = end;
        }

        return null;
    }

    // Section 13. Rows of macroblocks take the partitions in turn; whether the blocks above and to the left have coefficients is part of the code.
    private readonly string? WalkPartitions(Vp8Bits[] partitions, byte[] modes)
    {
        var above = new byte[9 * _wide];
        Span<byte> left = stackalloc byte[9];
        for (var row = 0; row < _high; row++)
        {
            left.Clear();
            ref var bits = ref partitions[row % partitions.Length];
            for (var column = 0; column < _wide; column++)
            {
                WalkMacroblock(ref bits, modes[(row * _wide) + column], above.AsSpan(9 * column, 9), left);
            }

            if (bits.Overrun)
            {
                return $"its partition {(row % partitions.Length) + 1} of {partitions.Length} ends in row {row + 1} of {_high}";
            }
        }

        for (var i = 0; i < partitions.Length; i++)
        {
            if (!partitions[i].IsAtEnd(_data))
            {
                return $"its partition {i + 1} of {partitions.Length} does not end where it should";
            }
        }

        return null;
    }

    // Of what lies above and to the left: 4 columns of brightness, 2 of each colour, and the means.
    private readonly void WalkMacroblock(ref Vp8Bits bits, byte mode, scoped Span<byte> above, scoped Span<byte> left)
    {
        var inParts = (mode & InParts) != 0;
        if ((mode & Skipped) != 0)
        {
            // The means stay what they were where there are none.
            above[..(inParts ? 8 : 9)].Clear();
            left[..(inParts ? 8 : 9)].Clear();
            return;
        }

        if (!inParts)
        {
            above[8] = left[8] = (byte)(WalkBlock(ref bits, Means, above[8] + left[8], 0) > 0 ? 1 : 0);
        }

        WalkBlocks(ref bits, inParts ? WithMeans : WithoutMeans, inParts ? 0 : 1, above[..4], left[..4]);
        WalkBlocks(ref bits, Colours, 0, above[4..6], left[4..6]);
        WalkBlocks(ref bits, Colours, 0, above[6..8], left[6..8]);
    }

    private readonly void WalkBlocks(ref Vp8Bits bits, int kind, int first, scoped Span<byte> above, scoped Span<byte> left)
    {
        for (var y = 0; y < left.Length; y++)
        {
            for (var x = 0; x < above.Length; x++)
            {
                above[x] = left[y] = (byte)(WalkBlock(ref bits, kind, above[x] + left[y], first) > first ? 1 : 0);
            }
        }
    }

    // The place behind the last coefficient that is not zero.
    private readonly int WalkBlock(ref Vp8Bits bits, int kind, int context, int place)
    {
        var p = _probabilities.AsSpan(kind + (Bands[place] * Vp8Tables.Band) + (context * Vp8Tables.Context), Vp8Tables.Context);
        while (place < 16)
        {
            if (bits.Bit(_data, p[0]) == 0)
            {
                return place;
            }

            while (bits.Bit(_data, p[1]) == 0)
            {
                if (++place == 16)
                {
                    return 16;
                }

                p = _probabilities.AsSpan(kind + (Bands[place] * Vp8Tables.Band), Vp8Tables.Context);
            }

            context = 1;
            if (bits.Bit(_data, p[2]) != 0)
            {
                PassLarge(ref bits, p);
                context = 2;
            }

            // The sign.
            bits.Bit(_data, 128);
            place++;
            p = _probabilities.AsSpan(kind + (Bands[place] * Vp8Tables.Band) + (context * Vp8Tables.Context), Vp8Tables.Context);
        }

        return 16;
    }

    private readonly void PassLarge(ref Vp8Bits bits, ReadOnlySpan<byte> p)
    {
        if (bits.Bit(_data, p[3]) == 0)
        {
            if (bits.Bit(_data, p[4]) != 0)
            {
                bits.Bit(_data, p[5]);
            }

            return;
        }

        if (bits.Bit(_data, p[6]) == 0)
        {
            if (bits.Bit(_data, p[7]) == 0)
            {
                bits.Bit(_data, 159);
                return;
            }

            bits.Bit(_data, 165);
            bits.Bit(_data, 145);
            return;
        }

        var further = bits.Bit(_data, p[8]) == 0
            ? bits.Bit(_data, p[9]) == 0 ? Large3 : Large4
            : bits.Bit(_data, p[10]) == 0 ? Large5 : Large6;
        foreach (var probability in further)
        {
            bits.Bit(_data, probability);
        }
    }
}
