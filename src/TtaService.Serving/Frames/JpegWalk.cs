using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;

namespace TtaService.Serving.Frames;

/// <summary>
/// Walks the entropy-coded data of a JPEG without making pixels and tells whether every block is there: decoders fill what is missing with grey and go on.
/// </summary>
/// <remarks>
/// Huffman codes have no checksum. Seen are codes and positions that do not exist, blocks that are missing or left over, restart markers out of order, brightness past black and
/// white, coefficients larger than those of any picture, zeroed bytes, scans that never came, and codes that the file's encoder would not have chosen
/// (<see cref="JpegHabits"/>). Not seen is a change that leaves a valid picture: a block or two with another texture, or a step in brightness, of as many blocks as before.
/// </remarks>
internal ref struct JpegWalk
{
    private const int BlockSize = 64;
    private const int MaxBlocksInUnit = 10;

    // DC is 8 times a block's mean distance from the middle level, 128, rounded to a step; a few more for coarse arithmetic of encoders.
    private const int MaxDc = (8 * 128) + 16;

    // 928 is the largest of a picture; some encoders let rings around letters go past white.
    private const int MaxAc = 1280;

    private static ReadOnlySpan<byte> Zeros => [0, 0, 0, 0, 0, 0, 0, 0];

    private readonly ReadOnlySpan<byte> _image;
    private readonly int[]?[] _steps = new int[4][];
    private readonly JpegHuffmanTable?[] _dc = [JpegHuffmanTable.Standard[0].Dc, JpegHuffmanTable.Standard[1].Dc, null, null];
    private readonly JpegHuffmanTable?[] _ac = [JpegHuffmanTable.Standard[0].Ac, JpegHuffmanTable.Standard[1].Ac, null, null];
    private Component[] _components = [];
    private (int Wide, int High) _units;
    private bool _progressive;
    private int _restartInterval;
    private int _scans;

    private JpegWalk(ReadOnlySpan<byte> image) => _image = image;

    /// <summary>What is damaged; null when nothing is.</summary>
    /// <param name="image">A JPEG of which <see cref="FrameHeader.Read"/> found the frame header and a scan.</param>
    public static string? FindDamage(ReadOnlySpan<byte> image)
    {
        var walk = new JpegWalk(image);
        try
        {
            return walk.Run();
        }
        finally
        {
            foreach (var component in walk._components)
            {
                if (component.NonZero.Length > 0)
                {
                    ArrayPool<ulong>.Shared.Return(component.NonZero);
                }
            }
        }
    }

    private string? Run()
    {
        var at = 2;
        while (true)
        {
            var marker = _image[at..].IndexOfAnyExcept((byte)0x00);
            if (marker < 0)
            {
                // The end marker may be missing, and padding may be in its place.
                return Missing();
            }

            at += marker;
            if (_image[at] != 0xFF)
            {
                return _scans > 0 ? $"{_image.Length - at} bytes behind scan {_scans} belong to nothing" : $"byte {at} belongs to no segment";
            }

            at += Math.Max(0, _image[at..].IndexOfAnyExcept((byte)0xFF));
            if (at + 1 >= _image.Length)
            {
                return Missing();
            }

            var kind = _image[at++];
            if (kind == JpegMarker.EndOfImage)
            {
                return Missing();
            }

            // A restart marker may stand behind the last block.
            if (kind is JpegMarker.Temporary or JpegMarker.StartOfImage or (>= JpegMarker.Restart0 and <= JpegMarker.Restart7))
            {
                continue;
            }

            var length = at + 2 <= _image.Length ? BinaryPrimitives.ReadUInt16BigEndian(_image[at..]) : 0;
            if (length < 2 || at + length > _image.Length)
            {
                return _scans > 0 ? Missing() ?? $"it breaks off in a segment behind scan {_scans}" : "it breaks off in a segment before its picture";
            }

            var body = _image.Slice(at + 2, length - 2);
            at += length;
            var damage = kind switch
            {
                JpegMarker.QuantizationTables => ReadSteps(body),
                JpegMarker.HuffmanTables => ReadTables(body),
                JpegMarker.RestartInterval => ReadRestartInterval(body),
                JpegMarker.StartOfScan => ReadScan(body, ref at),
                _ when JpegMarker.IsFrame(kind) => ReadFrame(kind, body),
                _ => null,
            };
            if (damage is not null)
            {
                return damage;
            }
        }
    }

    // Whether every coefficient of every component has come, to its last bit.
    private readonly string? Missing()
    {
        if (_scans == 0)
        {
            return "it has no scan";
        }

        foreach (var component in _components)
        {
            if (component.BitsLeft.AsSpan().ContainsAnyExcept((sbyte)0))
            {
                return $"scans are missing behind scan {_scans}";
            }
        }

        return null;
    }

    private readonly string? ReadSteps(ReadOnlySpan<byte> body)
    {
        while (!body.IsEmpty)
        {
            var (bytes, table) = ((body[0] >> 4) + 1, body[0] & 0x0F);
            if (bytes > 2 || table > 3 || body.Length < 1 + (BlockSize * bytes))
            {
                return "a quantization table is broken";
            }

            var steps = body.Slice(1, BlockSize * bytes);
            var read = new int[BlockSize];
            for (var i = 0; i < BlockSize; i++)
            {
                read[i] = bytes == 1 ? steps[i] : BinaryPrimitives.ReadUInt16BigEndian(steps[(2 * i)..]);
                if (read[i] == 0)
                {
                    return "a quantization table holds a zero";
                }
            }

            _steps[table] = read;

            body = body[(1 + (BlockSize * bytes))..];
        }

        return null;
    }

    private readonly string? ReadTables(ReadOnlySpan<byte> body)
    {
        while (!body.IsEmpty)
        {
            var (kind, id) = (body[0] >> 4, body[0] & 0x0F);
            if (kind > 1 || id > 3 || body.Length < 17 || JpegHuffmanTable.Read(body.Slice(1, 16), body[17..]) is not { } table)
            {
                return "a Huffman table is broken";
            }

            (kind == 0 ? _dc : _ac)[id] = table;
            body = body[(17 + table.Symbols)..];
        }

        return null;
    }

    private string? ReadRestartInterval(ReadOnlySpan<byte> body)
    {
        if (body.Length != 2)
        {
            return "its restart interval is broken";
        }

        _restartInterval = BinaryPrimitives.ReadUInt16BigEndian(body);
        return null;
    }

    private string? ReadFrame(byte kind, ReadOnlySpan<byte> body)
    {
        if (_components.Length > 0)
        {
            return "it has two frame headers";
        }

        var count = body.Length >= 6 ? body[5] : 0;
        if (count is < 1 or > 4 || body.Length != 6 + (3 * count) || body[0] != 8)
        {
            return "its frame header is broken";
        }

        var (height, width) = (BinaryPrimitives.ReadUInt16BigEndian(body[1..]), BinaryPrimitives.ReadUInt16BigEndian(body[3..]));
        _progressive = kind == JpegMarker.ProgressiveFrame;
        var components = new Component[count];
        var (most, highest) = (1, 1);
        for (var i = 0; i < count; i++)
        {
            var entry = body.Slice(6 + (3 * i), 3);
            var component = new Component { Id = entry[0], Wide = entry[1] >> 4, High = entry[1] & 0x0F, Table = entry[2] };
            if (component is { Wide: < 1 or > 4 } or { High: < 1 or > 4 } or { Table: > 3 })
            {
                return "its frame header is broken";
            }

            components[i] = component;
            (most, highest) = (Math.Max(most, component.Wide), Math.Max(highest, component.High));
        }

        _units = (Blocks(width, most), Blocks(height, highest));
        foreach (var component in components)
        {
            component.BlocksWide = Blocks(width * component.Wide, most);
            component.BlocksHigh = Blocks(height * component.High, highest);
            component.BitsLeft.AsSpan(0, _progressive ? BlockSize : 1).Fill(-1);
            if (_progressive)
            {
                var blocks = component.BlocksWide * component.BlocksHigh;
                component.NonZero = ArrayPool<ulong>.Shared.Rent(blocks);
                component.NonZero.AsSpan(0, blocks).Clear();
            }
        }

        _components = components;
        return null;

        static int Blocks(int pixels, int factor) => (pixels + (8 * factor) - 1) / (8 * factor);
    }

    private string? ReadScan(ReadOnlySpan<byte> body, ref int at)
    {
        var count = body.IsEmpty ? 0 : body[0];
        if (count is < 1 or > 4 || body.Length != 4 + (2 * count) || _components.Length == 0)
        {
            return "a scan's header is broken";
        }

        var scan = new Scan { First = body[^3], Last = body[^2], Before = body[^1] >> 4, Shift = body[^1] & 0x0F };
        if (!_progressive)
        {
            // What stands there has no meaning; some cameras write nonsense.
            (scan.First, scan.Last, scan.Before, scan.Shift) = (0, BlockSize - 1, 0, 0);
        }
        else if (scan.First > scan.Last || scan.Last >= BlockSize || (scan.First == 0 && scan.Last != 0) || (scan.First > 0 && count > 1) || scan.Shift > 13)
        {
            return "a scan's header is broken";
        }

        scan.Parts = new ScanPart[count];
        var blocks = 0;
        for (var i = 0; i < count; i++)
        {
            var (id, tables) = (body[1 + (2 * i)], body[2 + (2 * i)]);
            if (Array.Find(_components, component => component.Id == id) is not { } component)
            {
                return "a scan names a component that does not exist";
            }

            var (dc, ac) = ((tables >> 4) < 4 ? _dc[tables >> 4] : null, (tables & 0x0F) < 4 ? _ac[tables & 0x0F] : null);
            if ((scan is { First: 0, Before: 0 } && dc is null) || (scan.Last > 0 && ac is null) || _steps[component.Table] is not { } steps)
            {
                return "a scan names a table that does not exist";
            }

            foreach (ref var left in component.BitsLeft.AsSpan(scan.First, scan.Last - scan.First + 1))
            {
                left = (sbyte)scan.Shift;
            }

            scan.Parts[i] = new ScanPart(component, dc, ac, steps, scan.Shift, count == 1 ? (1, 1) : (component.Wide, component.High));
            blocks += scan.Parts[i].Blocks;
        }

        if (blocks > MaxBlocksInUnit)
        {
            return "a scan's header is broken";
        }

        _scans++;
        var alone = count == 1 ? scan.Parts[0].Component : null;
        var (wide, high) = alone is null ? _units : (alone.BlocksWide, alone.BlocksHigh);
        scan.Habits = new JpegHabits(wide);
        try
        {
            foreach (var part in scan.Parts)
            {
                part.RentEdges(_progressive ? 0 : wide, high);
            }

            return WalkScan(scan, wide, wide * high, ref at);
        }
        finally
        {
            foreach (var part in scan.Parts)
            {
                part.ReturnEdges();
            }
        }
    }

    private readonly string? WalkScan(Scan scan, int wide, int units, ref int at)
    {
        var zeros = scan.ZerosAreNothing ? -1 : _image[at..].IndexOf(Zeros);
        var zeroed = zeros < 0 ? int.MaxValue : at + zeros + Zeros.Length;
        var restart = JpegMarker.Restart0;
        for (var unit = 0; unit < units;)
        {
            var bits = new JpegBits(_image, at);
            var until = _restartInterval == 0 ? units : Math.Min(units, unit + _restartInterval);
            scan.BlocksToSkip = 0;
            scan.Habits.Restarts();
            foreach (var part in scan.Parts)
            {
                part.Dc = 0;
            }

            for (; unit < until; unit++)
            {
                var valid = _progressive ? WalkProgressive(scan, unit, ref bits) : WalkSequential(scan, unit, wide, ref bits);
                if (bits.Overrun || !valid)
                {
                    return bits.Overrun ? $"scan {_scans} ends after {unit} of {units} blocks" : $"scan {_scans} is broken at block {unit} of {units}";
                }
            }

            var (marker, unread) = bits.End();
            if (marker - unread >= zeroed)
            {
                return $"bytes of scan {_scans} are zeroed, at {zeroed - Zeros.Length}";
            }

            var left = _image.Slice(Math.Max(at, marker - unread), Math.Min(unread, marker - at));
            if (scan.BlocksToSkip > 0 || (unread > scan.SmallestUnit / 8 && (_progressive || left.ContainsAnyExcept((byte)0))))
            {
                return $"scan {_scans} has {unread} bytes left behind block {unit} of {units}";
            }

            if (EndsInZeros(at, marker - unread, unread > 0 || bits.Padding > 0))
            {
                return $"bytes at the end of scan {_scans} are zeroed";
            }

            at = marker;
            if (unit < units)
            {
                at += 2;
                if (at > _image.Length || _image[at - 1] != restart)
                {
                    return $"scan {_scans} ends after {unit} of {units} blocks";
                }

                restart = restart == JpegMarker.Restart7 ? JpegMarker.Restart0 : (byte)(restart + 1);
            }
        }

        if (scan.Habits.AreBroken)
        {
            return $"scan {_scans} has codes that its encoder does not write";
        }

        foreach (var part in scan.Parts)
        {
            if (!_progressive && JpegSeam.Find(part.Jumps.AsSpan(0, units), wide) is >= 0 and var seam)
            {
                return $"scan {_scans} changes its level at block {seam} of {units}";
            }
        }

        return null;
    }

    // The last bytes of blocks are zero and so is what follows them: encoders fill the last byte up with ones.
    // Those that do not can end in two bytes of zeros: the ends of two blocks of colour in the standard codes, and the filling.
    private readonly bool EndsInZeros(int begin, int end, bool isFollowed)
    {
        const int Fewest = 3;
        return isFollowed && end - begin > Fewest && !_image[(end - Fewest)..end].ContainsAnyExcept((byte)0) && _image[end - Fewest - 1] != 0xFF;
    }

    // One unit of a baseline or an extended scan. False when it can't be.
    private static bool WalkSequential(Scan scan, int unit, int wide, ref JpegBits bits)
    {
        var (row, column) = Math.DivRem(unit, wide);
        foreach (var part in scan.Parts)
        {
            var jump = 0f;
            for (var block = 0; block < part.Blocks; block++)
            {
                if (!WalkDc(part, 0, ref bits))
                {
                    return false;
                }

                var (even, odd) = (part.Dc * part.EdgeWeights[0], 0f);
                var passed = false;
                for (var k = 1; k < BlockSize; k++)
                {
                    var symbol = bits.SymbolAndValue(part.Ac!, out var value);
                    if ((symbol & 0x0F) == 0)
                    {
                        if (symbol != 0xF0)
                        {
                            // The end of the block; other runs of nothing do not exist.
                            if (symbol != 0)
                            {
                                return false;
                            }

                            scan.Habits.BlockEnded(BlockSize - k, passed);
                            break;
                        }

                        passed = true;
                        k += 15;
                        if (k >= BlockSize)
                        {
                            return false;
                        }

                        continue;
                    }

                    k += symbol >> 4;
                    if (symbol < 0 || k >= BlockSize || (symbol & 0x0F) > part.MostBits[k])
                    {
                        return false;
                    }

                    passed = false;
                    if ((JpegSeam.Column >> k & 1) != 0)
                    {
                        var edge = Value((int)(value >> (64 - (symbol & 0x0F))), symbol & 0x0F) * part.EdgeWeights[k];
                        (even, odd) = (JpegSeam.OddColumn >> k & 1) == 0 ? (even + edge, odd) : (even, odd + edge);
                    }
                }

                var (down, right) = Math.DivRem(block, part.Wide);
                ref var lower = ref part.LowerEdges[(column * part.Wide) + right];
                jump += down == 0 ? even + odd - lower : 0;
                lower = even - odd;
            }

            part.Jumps[unit] = row == 0 ? 0 : jump / part.Wide;
        }

        return true;
    }

    private static bool WalkProgressive(Scan scan, int unit, ref JpegBits bits)
    {
        if (scan.First > 0)
        {
            ref var nonZero = ref scan.Parts[0].Component.NonZero[unit];
            return scan.Before == 0 ? WalkAc(scan, unit, ref nonZero, ref bits) : RefineAc(scan, unit, ref nonZero, ref bits);
        }

        foreach (var part in scan.Parts)
        {
            for (var block = 0; block < part.Blocks; block++)
            {
                if (scan.Before > 0)
                {
                    bits.Bits(1);
                }
                else if (!WalkDc(part, scan.Shift, ref bits))
                {
                    return false;
                }
            }
        }

        return true;
    }

    private static bool WalkDc(ScanPart part, int shift, ref JpegBits bits)
    {
        var size = bits.Symbol(part.Dcs!);
        if (size is < 0 or > 11)
        {
            return false;
        }

        part.Dc += Value(bits.Bits(size), size);
        return Math.Abs((long)part.Dc << shift) * part.Step <= MaxDc + (((long)part.Step << shift) / 2);
    }

    // Table F.1: the lower half of a size's numbers are negative.
    private static int Value(int bits, int size) => size > 0 && bits < 1 << (size - 1) ? bits - (1 << size) + 1 : bits;

    private static bool WalkAc(Scan scan, int unit, ref ulong nonZero, ref JpegBits bits)
    {
        if (scan.BlocksToSkip > 0)
        {
            scan.BlocksToSkip--;
            return true;
        }

        var passed = false;
        for (var k = scan.First; k <= scan.Last; k++)
        {
            var symbol = bits.SymbolAndValue(scan.Parts[0].Ac!, out _);
            var run = symbol >> 4;
            if (symbol < 0)
            {
                return false;
            }

            if ((symbol & 0x0F) == 0)
            {
                if (run < 15)
                {
                    var blocks = (1 << run) + bits.Bits(run);
                    scan.BlocksToSkip = blocks - 1;
                    scan.Habits.BlockEnded(scan.Last + 1 - k, passed);
                    scan.Habits.RunBegins(unit, blocks, k == scan.First);
                    break;
                }

                passed = true;
                k += 15;
                if (k > scan.Last)
                {
                    return false;
                }

                continue;
            }

            k += run;
            if (k > scan.Last || (symbol & 0x0F) > scan.Parts[0].MostBits[k])
            {
                return false;
            }

            passed = false;
            nonZero |= 1UL << k;
        }

        return true;
    }

    // Figure G.7: coefficients that are not zero yet come with a sign, those that are get one further bit.
    private static bool RefineAc(Scan scan, int unit, ref ulong nonZero, ref JpegBits bits)
    {
        var before = nonZero;
        var k = scan.First;
        var passed = false;
        while (scan.BlocksToSkip == 0 && k <= scan.Last)
        {
            var symbol = bits.Symbol(scan.Parts[0].Ac!);
            var (run, size) = (symbol >> 4, symbol & 0x0F);
            if (symbol < 0 || size > 1)
            {
                return false;
            }

            if (size == 0 && run < 15)
            {
                scan.BlocksToSkip = (1 << run) + bits.Bits(run);
                scan.Habits.BlockEnded(scan.Last + 1 - k - BitOperations.PopCount(before & scan.From(k)), passed);
                scan.Habits.RunBegins(unit, scan.BlocksToSkip, k == scan.First);
                break;
            }

            bits.Bits(size);
            for (; k <= scan.Last; k++)
            {
                if ((before >> k & 1) != 0)
                {
                    bits.Bits(1);
                }
                else if (--run < 0)
                {
                    break;
                }
            }

            if (k > scan.Last)
            {
                return false;
            }

            passed = size == 0;
            nonZero |= size == 1 ? 1UL << k : 0;
            k++;
        }

        if (scan.BlocksToSkip > 0)
        {
            scan.BlocksToSkip--;
            var further = k > scan.Last ? 0 : BitOperations.PopCount(before & scan.From(k));
            scan.Habits.Refined(further);
            bits.Pass(further);
        }

        return true;
    }

    private sealed class Component
    {
        public required byte Id { get; init; }

        public required int Wide { get; init; }

        public required int High { get; init; }

        public required int Table { get; init; }

        public int BlocksWide { get; set; }

        public int BlocksHigh { get; set; }

        /// <summary>By coefficient: bits that later scans of a progressive picture must bring; -1 when none came. One entry is enough for the others.</summary>
        public sbyte[] BitsLeft { get; } = new sbyte[BlockSize];

        /// <summary>A bit a coefficient, by block; progressive pictures only.</summary>
        public ulong[] NonZero { get; set; } = [];
    }

    private sealed class Scan
    {
        private const int NarrowBand = 8;

        public ScanPart[] Parts { get; set; } = [];

        public JpegHabits Habits { get; set; } = new(1);

        public int First { get; set; }

        public int Last { get; set; }

        /// <summary>The bits that were left before this scan; 0 for a first one.</summary>
        public int Before { get; set; }

        public int Shift { get; set; }

        /// <summary>Blocks of which this scan brings nothing more.</summary>
        public int BlocksToSkip { get; set; }

        /// <summary>A bit for each coefficient of the scan from one of them on.</summary>
        public ulong From(int k) => (ulong.MaxValue >> (BlockSize - 1 - Last)) & (ulong.MaxValue << k);

        /// <summary>Zero bits may go on for long where nothing is in the picture: refinements, codes in which zeros end a block, and bands so narrow that a ramp
        /// fills them.</summary>
        public bool ZerosAreNothing =>
            Before > 0 || Last - First < NarrowBand
            || Array.TrueForAll(Parts, part => part.Ac!.ZeroSymbol is var symbol && (First == 0 ? symbol == 0 : (symbol & 0x0F) == 0 && symbol < 0xF0));

        /// <summary>Bits of a unit without content: fewer that are left over are an encoder's padding, some webcams have it.</summary>
        public int SmallestUnit => First == 0 && Last > 0 ? Parts.Sum(part => part.Blocks * (part.Dcs!.LengthOf(0) + part.Ac!.LengthOf(0))) - 8 : 0;
    }

    private sealed class ScanPart(Component component, JpegHuffmanTable? dcs, JpegHuffmanTable? ac, int[] steps, int shift, (int Wide, int High) unit)
    {
        public Component Component { get; } = component;

        public JpegHuffmanTable? Dcs { get; } = dcs;

        public JpegHuffmanTable? Ac { get; } = ac;

        /// <summary>The step in which DC is coded.</summary>
        public int Step { get; } = steps[0];

        /// <summary>Blocks of a unit, side by side.</summary>
        public int Wide { get; } = unit.Wide;

        /// <summary>Blocks of a unit.</summary>
        public int Blocks { get; } = unit.Wide * unit.High;

        /// <summary><see cref="JpegSeam.Weights"/> of the coefficients as they are coded.</summary>
        public float[] EdgeWeights { get; } = [.. JpegSeam.Weights.Zip(steps, (weight, step) => weight * step)];

        /// <summary>Bits of a coefficient as it is coded, at most.</summary>
        public byte[] MostBits { get; } = [.. steps.Select(step => (byte)(BitOperations.Log2((uint)((MaxAc / step) + 1) >> shift) + 1))];

        /// <summary>Means of the lower edges of the last row of blocks, in levels.</summary>
        public float[] LowerEdges { get; private set; } = [];

        /// <summary>By unit: the mean jump from the blocks above it.</summary>
        public float[] Jumps { get; private set; } = [];

        /// <summary>The last DC, in steps.</summary>
        public int Dc { get; set; }

        public void RentEdges(int wide, int high)
        {
            LowerEdges = ArrayPool<float>.Shared.Rent(wide * Wide);
            Jumps = ArrayPool<float>.Shared.Rent(wide * high);
        }

        public void ReturnEdges()
        {
            ArrayPool<float>.Shared.Return(LowerEdges);
            ArrayPool<float>.Shared.Return(Jumps);
        }
    }
}
