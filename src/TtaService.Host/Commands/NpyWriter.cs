using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace TtaService.Host.Commands;

/// <summary>Writes rows of float32 as a NumPy file (.npy, version 1.0), row by row; the count of rows is written when it is closed.</summary>
internal sealed class NpyWriter : IDisposable
{
    // Fixed, so that the row count can be filled in at the end; a multiple of 64 as NumPy aligns it.
    private const int HeaderBytes = 128;
    private readonly FileStream _file;
    private int _columns;
    private long _rows;

    public NpyWriter(string path)
    {
        _file = new FileStream(path, FileMode.Create, FileAccess.Write);
        _file.Write(new byte[HeaderBytes]);
    }

    /// <summary>Appends rows; all have the same number of columns.</summary>
    public void Append(ReadOnlySpan<float> values, int columns)
    {
        if (_columns == 0)
        {
            _columns = columns;
        }

        if (columns != _columns || values.Length % columns != 0)
        {
            throw new ArgumentException($"{values.Length} values in rows of {columns}, after rows of {_columns}", nameof(values));
        }

        _file.Write(MemoryMarshal.AsBytes(values));
        _rows += values.Length / columns;
    }

    public void Dispose()
    {
        var header = new byte[HeaderBytes];
        header.AsSpan().Fill((byte)' ');
        byte[] magic = [0x93, .. "NUMPY"u8, 1, 0, HeaderBytes - 10, 0];
        magic.CopyTo(header, 0);
        var shape = string.Create(CultureInfo.InvariantCulture, $"{{'descr': '<f4', 'fortran_order': False, 'shape': ({_rows}, {_columns}), }}");
        Encoding.ASCII.GetBytes(shape, header.AsSpan(magic.Length));
        header[^1] = (byte)'\n';
        _file.Position = 0;
        _file.Write(header);
        _file.Dispose();
    }
}
