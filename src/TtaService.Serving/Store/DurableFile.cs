using System.Runtime.InteropServices;

namespace TtaService.Serving.Store;

/// <summary>Writes a file so that a crash leaves either nothing of it or all of it.</summary>
internal static partial class DurableFile
{
    public const string TemporaryExtension = ".tmp";

    private const int ReadOnly = 0;
    private const int CloseOnExec = 0x80000;

    /// <summary>Writes beside the target, forces the bytes to the disk, renames, and forces the folder to the disk.</summary>
    /// <exception cref="IOException">Not written; a temporary file may be left over.</exception>
    public static void Write(string path, ReadOnlySpan<byte> content)
    {
        // A bare name has no folder to flush.
        path = Path.GetFullPath(path);
        var temporary = path + TemporaryExtension;
        using (var file = File.OpenHandle(temporary, FileMode.Create, FileAccess.Write, FileShare.None, FileOptions.None, preallocationSize: content.Length))
        {
            RandomAccess.Write(file, content, 0);
            RandomAccess.FlushToDisk(file);
        }

        File.Move(temporary, path, overwrite: true);
        FlushFolder(Path.GetDirectoryName(path)!);
    }

    /// <summary>Forces the names of a folder to the disk. Windows does so by itself.</summary>
    public static void FlushFolder(string folder)
    {
        if (!OperatingSystem.IsLinux())
        {
            return;
        }

        var descriptor = Open(folder, ReadOnly | CloseOnExec);
        if (descriptor < 0)
        {
            throw new IOException($"'{folder}' can't be opened: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        var failed = Flush(descriptor) != 0;
        var reason = Marshal.GetLastPInvokeErrorMessage();
        _ = Close(descriptor);
        if (failed)
        {
            throw new IOException($"'{folder}' can't be flushed: {reason}");
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Flush(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int descriptor);
}
