using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;

namespace TtaService.Host.Tests.Commands;

/// <summary>A float32 matrix read from a .npy file as NumPy's format description says.</summary>
internal sealed partial record NpyArray(int Rows, int Columns, float[] Values)
{
    public static NpyArray Read(string path)
    {
        var bytes = File.ReadAllBytes(path);
        Assert.Equal([0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', 1, 0], bytes[..8]);
        var headerBytes = BitConverter.ToUInt16(bytes, 8);
        Assert.Equal(0, (10 + headerBytes) % 64);
        var header = Encoding.ASCII.GetString(bytes, 10, headerBytes);
        Assert.EndsWith("\n", header, StringComparison.Ordinal);
        var match = Shape().Match(header);
        Assert.True(match.Success, header);
        var (rows, columns) = (int.Parse(match.Groups[1].Value, CultureInfo.InvariantCulture), int.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture));
        var values = MemoryMarshal.Cast<byte, float>(bytes.AsSpan(10 + headerBytes)).ToArray();
        Assert.Equal(rows * columns, values.Length);
        return new NpyArray(rows, columns, values);
    }

    public int Largest(int row) => Array.IndexOf(Values, Values[(row * Columns)..((row + 1) * Columns)].Max(), row * Columns) - (row * Columns);

    [GeneratedRegex(@"^\{'descr': '<f4', 'fortran_order': False, 'shape': \((\d+), (\d+)\), \} *\n$")]
    private static partial Regex Shape();
}
