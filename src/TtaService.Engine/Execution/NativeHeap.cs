using System.Runtime.InteropServices;

namespace TtaService.Engine.Execution;

/// <summary>How glibc keeps the memory that torch gives back.</summary>
internal static partial class NativeHeap
{
    private const int TrimThreshold = -1;
    private const int TopPad = -2;
    private const int MmapThreshold = -3;

    private static readonly Lazy<bool> Kept = new(Configure);

    /// <summary>Keeps freed activations for the next pass. By default glibc maps every block over 32 MiB anew and the kernel zeroes its pages again: a quarter of the
    /// time of a large batch (Benchmarks, streams).</summary>
    public static void KeepFreedMemory() => _ = Kept.Value;

    private static bool Configure()
    {
        if (!OperatingSystem.IsLinux())
        {
            return false;
        }

        try
        {
            return SetOption(MmapThreshold, 1 << 30) != 0 && SetOption(TrimThreshold, int.MaxValue) != 0 && SetOption(TopPad, 64 << 20) != 0;
        }
        catch (EntryPointNotFoundException)
        {
            // musl has no such option.
            return false;
        }
    }

    [LibraryImport("libc", EntryPoint = "mallopt")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int SetOption(int option, int value);
}
