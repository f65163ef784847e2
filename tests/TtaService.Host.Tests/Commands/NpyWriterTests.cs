using TtaService.Host.Commands;

namespace TtaService.Host.Tests.Commands;

public sealed class NpyWriterTests
{
    [Fact]
    public void Append_RowsInParts_AreReadBackWithTheirShape()
    {
        var path = Path.GetTempFileName();
        using (var writer = new NpyWriter(path))
        {
            writer.Append([1, 2, 3, 4, 5, 6], columns: 3);
            writer.Append([7, float.MinValue, -0.5f], columns: 3);
        }

        var read = NpyArray.Read(path);
        File.Delete(path);

        Assert.Equal((3, 3), (read.Rows, read.Columns));
        Assert.Equal([1, 2, 3, 4, 5, 6, 7, float.MinValue, -0.5f], read.Values);
    }

    [Fact]
    public void Append_OtherRowLength_Throws()
    {
        var path = Path.GetTempFileName();
        using var writer = new NpyWriter(path);
        writer.Append([1, 2], columns: 2);

        Assert.Throws<ArgumentException>(() => writer.Append([1, 2, 3], columns: 3));
    }
}
