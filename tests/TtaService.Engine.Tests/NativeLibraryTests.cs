using System.Buffers.Binary;
using System.Text;
using TorchSharp;

namespace TtaService.Engine.Tests;

public sealed class NativeLibraryTests
{
    [Fact]
    public void LibTorchSharp_InTheOutput_DoesNotInsistOnANewerLibstdcxx()
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "the symbol version concerns Linux only");
        var elf = File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "libLibTorchSharp.so"));
        var versions = Needs(elf).Where(need => need.Name == "GLIBCXX_3.4.32").ToList();
        Assert.Single(versions);
        Assert.True((versions[0].Flags & 2) != 0, "GLIBCXX_3.4.32 is not marked weak");
    }

    [Fact]
    public void Torch_Loads_AndAdds() => Assert.Equal(3f, (torch.ones(2) + 0.5f).sum().item<float>());

    // Walks .gnu.version_r.
    private static IEnumerable<(string Name, int Flags)> Needs(byte[] elf)
    {
        var sections = (int)BinaryPrimitives.ReadInt64LittleEndian(elf.AsSpan(0x28));
        var size = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x3a));
        for (var i = 0; i < BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(0x3c)); i++)
        {
            var header = sections + (i * size);
            if (BinaryPrimitives.ReadUInt32LittleEndian(elf.AsSpan(header + 4)) != 0x6ffffffe)
            {
                continue;
            }

            var strings = (int)BinaryPrimitives.ReadInt64LittleEndian(elf.AsSpan(sections + (BinaryPrimitives.ReadInt32LittleEndian(elf.AsSpan(header + 40)) * size) + 24));
            var need = (int)BinaryPrimitives.ReadInt64LittleEndian(elf.AsSpan(header + 24));
            for (var next = 1; next != 0; need += next)
            {
                var aux = need + BinaryPrimitives.ReadInt32LittleEndian(elf.AsSpan(need + 8));
                for (var k = BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(need + 2)); k > 0; k--)
                {
                    var name = strings + BinaryPrimitives.ReadInt32LittleEndian(elf.AsSpan(aux + 8));
                    yield return (Encoding.ASCII.GetString(elf, name, Array.IndexOf(elf, (byte)0, name) - name), BinaryPrimitives.ReadUInt16LittleEndian(elf.AsSpan(aux + 4)));
                    aux += BinaryPrimitives.ReadInt32LittleEndian(elf.AsSpan(aux + 12));
                }

                next = BinaryPrimitives.ReadInt32LittleEndian(elf.AsSpan(need + 12));
            }
        }
    }
}
