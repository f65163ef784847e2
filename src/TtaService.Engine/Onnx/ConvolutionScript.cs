using System.Globalization;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;
using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>The TorchScript methods behind <see cref="PackedConvolution"/>: oneDNN's operators, which TorchSharp does not wrap, for one geometry.</summary>
/// <remarks>
/// Only an archive's source may name operators of other namespaces than aten, so one is written to memory and loaded. Numbers stand in the source,
/// not in the arguments: passing eight of them costs as much as a small convolution.
/// </remarks>
internal sealed partial class ConvolutionScript : IDisposable
{
    // A module of class Convolution with one attribute, training = False, in pickle's protocol 2.
    private static readonly byte[] ModulePickle =
    [
        0x80, 2, (byte)'c', .. "__torch__\nConvolution\n"u8, (byte)')', 0x81, (byte)'}', (byte)'(', (byte)'X', 8, 0, 0, 0, .. "training"u8, 0x89, (byte)'u', (byte)'b', (byte)'.',
    ];

    private static readonly byte[] EmptyTuple = [0x80, 2, (byte)')', (byte)'.'];

    private readonly jit.ScriptModule _module;

    /// <exception cref="ExternalException">torch refuses the archive.</exception>
    public ConvolutionScript(ConvolutionGeometry geometry, bool hasBias)
    {
        Geometry = geometry;
        _module = Load(Source(geometry, hasBias));
    }

    /// <summary>Whether oneDNN is there and can be reached.</summary>
    public static bool Supported { get; } = OperatingSystem.IsLinux() && RuntimeInformation.ProcessArchitecture == Architecture.X64;

    public ConvolutionGeometry Geometry { get; }

    /// <summary>Lays out a weight for inputs of a shape [B,C,H,W].</summary>
    public Tensor Pack(Tensor weight, long[] input)
    {
        using var frames = input[0].ToScalar();
        using var channels = input[1].ToScalar();
        using var height = input[2].ToScalar();
        using var width = input[3].ToScalar();
        return Invoke("pack", weight, frames, channels, height, width);
    }

    /// <summary>Convolves; the bias is not read if there is none.</summary>
    public Tensor Run(Tensor x, Tensor weight, Tensor bias) => Invoke("run", x, weight, bias);

    public void Dispose() => _module.Dispose();

    private static string Source(ConvolutionGeometry g, bool hasBias)
    {
        var geometry = string.Create(CultureInfo.InvariantCulture, $"[{g.PadY}, {g.PadX}], [{g.StrideY}, {g.StrideX}], [{g.DilationY}, {g.DilationX}], {g.Groups}");
        var bias = hasBias ? "b" : "None";
        return $"""
            class Convolution(Module):
              __parameters__ = []
              __buffers__ = []
              training : bool
              def pack(self: __torch__.Convolution, w: Tensor, n: int, c: int, h: int, v: int) -> Tensor:
                return ops.mkldnn._reorder_convolution_weight(w, {geometry}, [n, c, h, v])
              def run(self: __torch__.Convolution, x: Tensor, w: Tensor, b: Tensor) -> Tensor:
                return ops.mkldnn._convolution_pointwise(x, w, {bias}, {geometry}, "none", annotate(List[Optional[number]], []), "")

            """;
    }

    // Tensors and scalars of the caller: of a bare number TorchSharp makes a scalar that may be freed before it is read.
    private Tensor Invoke(string method, params object[] arguments) => (Tensor)_module.invoke(method, arguments);

    // torch loads from a path only; a file in memory has one on every file system, read-only ones included.
    private static jit.ScriptModule Load(string source)
    {
        using var file = new SafeFileHandle(CreateMemoryFile("convolution", 0), ownsHandle: true);
        if (file.IsInvalid)
        {
            throw new IOException($"memfd_create: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        using (var stream = new MemoryStream())
        {
            using (var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
            {
                Write(archive, "data.pkl", ModulePickle);
                Write(archive, "code/__torch__.py", Encoding.ASCII.GetBytes(source));
                Write(archive, "constants.pkl", EmptyTuple);
                Write(archive, "version", "3\n"u8);
            }

            RandomAccess.Write(file, stream.GetBuffer().AsSpan(0, (int)stream.Length), 0);
        }

        return jit.load($"/proc/self/fd/{file.DangerousGetHandle()}");
    }

    private static void Write(ZipArchive archive, string name, ReadOnlySpan<byte> content)
    {
        using var entry = archive.CreateEntry($"convolution/{name}", CompressionLevel.NoCompression).Open();
        entry.Write(content);
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", StringMarshalling = StringMarshalling.Utf8, SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int CreateMemoryFile(string name, uint flags);
}
