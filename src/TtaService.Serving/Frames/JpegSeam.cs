namespace TtaService.Serving.Frames;

/// <summary>
/// Finds where the brightness or a colour of a JPEG jumps and stays: brightness is coded as the difference to the block before, so one wrong bit moves all that follows.
/// </summary>
/// <remarks>
/// Such a jump runs along the upper edge of the blocks from the wrong one to the end of its row and along the next row up to the column where it began, exactly between blocks and equally high everywhere.
/// Edges of a scene do not have a step of one row of blocks, on the grid of the blocks, over the picture's whole width: none of 1,320 whole files of 30 pictures is taken for damaged. Wider nets
/// (medians in place of nearly all units) find four in five instead of two in three of the jumps that matter, and take one whole file in forty for damaged.
/// Jumps that begin near a row's end are not looked for: a level edge on the grid has that shape.
/// </remarks>
internal static class JpegSeam
{
    // Levels of 255.
    private const float LeastJump = 4;
    private const int FewestUnits = 16;
    private const int Margin = 2;
    private const double Agreeing = 0.85;

    private const ulong EvenColumn = 1UL | (1UL << 3) | (1UL << 10) | (1UL << 21);

    static JpegSeam()
    {
        ReadOnlySpan<byte> places = [0, 2, 3, 9, 10, 20, 21, 35];
        for (var v = 0; v < places.Length; v++)
        {
            Weights[places[v]] = v == 0 ? 1 / 8f : (float)(Math.Sqrt(0.5) / 4 * Math.Cos(v * Math.PI / 16));
        }
    }

    /// <summary>Places in the scan of a block's first column of coefficients: those that the means of its upper and its lower edge are made of.</summary>
    public const ulong Column = EvenColumn | OddColumn;

    /// <summary>Those of odd frequency, which count against the lower edge.</summary>
    public const ulong OddColumn = (1UL << 2) | (1UL << 9) | (1UL << 20) | (1UL << 35);

    /// <summary>Weights of the coefficients in the mean of the upper edge, by their place in the scan.</summary>
    public static float[] Weights { get; } = new float[64];

    /// <summary>The unit of blocks where a jump begins; -1 when none does.</summary>
    /// <param name="jumps">From the lower edge of the unit above to the upper edge of each unit, in levels, row by row; those of the first row are 0.</param>
    /// <param name="wide">Units in a row.</param>
    public static int Find(ReadOnlySpan<float> jumps, int wide)
    {
        if (wide < FewestUnits)
        {
            return -1;
        }

        var sum = 0.0;
        for (var at = wide; at + wide <= jumps.Length; at++)
        {
            if (at == wide)
            {
                foreach (var jump in jumps.Slice(at, wide))
                {
                    sum += jump;
                }
            }
            else
            {
                sum += jumps[at + wide - 1] - jumps[at - 1];
            }

            var column = at % wide;
            var height = (float)(sum / wide);
            if (Math.Abs(height) >= LeastJump && column >= Margin && column <= wide - Margin && IsSeam(jumps, at, column, wide, height))
            {
                return at;
            }
        }

        return -1;
    }

    // The four parts of the two rows: jumps on the seam, none beside it.
    private static bool IsSeam(ReadOnlySpan<float> jumps, int at, int column, int wide, float height)
    {
        var row = at - column;
        var rest = Math.Min(wide - column, jumps.Length - at - wide);
        return Near(jumps.Slice(at, wide - column), height, height) && Near(jumps.Slice(row + wide, column), height, height)
            && Near(jumps.Slice(row, column), 0, height) && Near(jumps.Slice(at + wide, rest), 0, height);
    }

    // Nearly all of them are nearer to the level than half of the jump.
    private static bool Near(ReadOnlySpan<float> jumps, float level, float height)
    {
        var (near, reach) = (0, Math.Abs(height) / 2);
        foreach (var jump in jumps)
        {
            near += Math.Abs(jump - level) < reach ? 1 : 0;
        }

        return near >= Agreeing * jumps.Length;
    }
}
