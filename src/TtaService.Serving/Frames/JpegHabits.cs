namespace TtaService.Serving.Frames;

/// <summary>
/// Notices codes that contradict how the encoder of the same scan wrote the rest of it: a decoder that went astray meets them, encoders have one way of writing each block. Not
/// thread-safe.
/// </summary>
/// <remarks>
/// Two habits are looked at. Of a block's end: an encoder that leaves out what follows the last coefficient does not write runs of 16 zeros before it.
/// Of blocks without content in a progressive picture: an encoder that counts them in one code does not write two such codes, one behind the other.
/// No way of writing is a fault in itself.
/// </remarks>
/// <param name="wide">Blocks in a row.</param>
internal sealed class JpegHabits(int wide)
{
    private const int LongRun = 16;

    // Encoders hold back the bits that refine the blocks of a run, and end the run when they have no room for another block's.
    private const int BitsOfABlock = 128;

    // A scan that is written otherwise in more places is no longer of one encoder.
    private const int MostParted = 256;

    private readonly List<(int Blocks, int Bits, bool BeganEmpty)> _parted = [];
    private bool _endsAtOnce;
    private bool _passesBeforeEnd;
    private bool _merges;
    private int _longest;
    private int _mostBits;
    private (int Blocks, int Bits, bool BeganEmpty) _run;
    private int _next = -1;

    /// <summary>The scan has codes of two ways of writing.</summary>
    public bool AreBroken => (_endsAtOnce && _passesBeforeEnd)
        || _parted.Exists(run => run.Blocks < _longest && run.Bits + BitsOfABlock <= Math.Max(BitsOfABlock, _mostBits) && (_merges || run.BeganEmpty));

    /// <summary>The scan begins anew behind a marker.</summary>
    public void Restarts() => _next = -1;

    /// <summary>A block was ended by a code.</summary>
    /// <param name="left">Coefficients that it left out.</param>
    /// <param name="passed">Whether 16 zeros were passed over just before.</param>
    public void BlockEnded(int left, bool passed)
    {
        _passesBeforeEnd |= passed;
        _endsAtOnce |= !passed && left >= LongRun;
    }

    /// <summary>A code says that blocks bring nothing more.</summary>
    /// <param name="unit">The first of them.</param>
    /// <param name="blocks">How many.</param>
    /// <param name="isEmpty">It is the first block's first code.</param>
    public void RunBegins(int unit, int blocks, bool isEmpty)
    {
        // Rows may be written one by one.
        if (isEmpty && unit == _next && unit % wide != 0 && _parted.Count < MostParted)
        {
            _parted.Add(_run);
        }

        _merges |= !isEmpty && blocks > 1;
        _longest = Math.Max(_longest, blocks);
        _run = (blocks, 0, isEmpty);
        _next = unit + blocks;
    }

    /// <summary>A block of a run was refined.</summary>
    /// <param name="bits">By so many bits.</param>
    public void Refined(int bits)
    {
        _run.Bits += bits;
        _mostBits = Math.Max(_mostBits, _run.Bits);
    }
}
