using System.Buffers.Binary;
using System.Text.Json;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>Keeps states in a folder, one safetensors file a checkpoint. One process at a time uses a folder.</summary>
internal sealed class FileBlobs : ICheckpointBlobs
{
    private const string LockName = ".lock";
    private const int MaxRejected = 100;

    private readonly string _folder;
    private readonly FileStream _lock;
    private readonly TimeProvider _clock;

    /// <exception cref="StoreUnavailableException">The folder can't be used, or another process uses it.</exception>
    public FileBlobs(StoreOptions options, TimeProvider clock)
    {
        _clock = clock;
        _folder = Path.GetFullPath(options.Path);
        try
        {
            Directory.CreateDirectory(_folder);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreUnavailableException($"the folder '{_folder}' (Store:Path) can't be made: {e.Message}", e);
        }

        try
        {
            _lock = new FileStream(Path.Combine(_folder, LockName), FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new StoreUnavailableException(
                $"the folder '{_folder}' (Store:Path) can't be locked, perhaps another process uses it; give each process a folder of its own, or use redis: {e.Message}",
                e);
        }
    }

    public bool OutlivesProcess => true;

    /// <summary>What a checkpoint file says of itself, by its header alone.</summary>
    /// <exception cref="CheckpointRefusedException">It says nothing of the kind.</exception>
    public static CheckpointDescription DescribeFile(string path, long number)
    {
        using var file = File.OpenHandle(path);
        var length = RandomAccess.GetLength(file);
        Span<byte> prefix = stackalloc byte[8];
        if (RandomAccess.Read(file, prefix, 0) < prefix.Length || BinaryPrimitives.ReadUInt64LittleEndian(prefix) is var headerLength
            && headerLength > (ulong)Math.Min(length - 8, Safetensors.MaxHeaderBytes))
        {
            throw new CheckpointRefusedException("damaged", $"the file has {length} bytes, fewer than its header says");
        }

        var header = new byte[(int)headerLength];
        RandomAccess.Read(file, header, 8);
        try
        {
            using var json = JsonDocument.Parse(header);
            var metadata = json.RootElement.GetProperty("__metadata__").EnumerateObject().ToDictionary(pair => pair.Name, pair => pair.Value.GetString() ?? "");
            return CheckpointSeal.Describe(metadata, number, length);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or ArgumentException)
        {
            throw new CheckpointRefusedException("damaged", "the header is not valid safetensors JSON");
        }
    }

    public void Put(string stream, long number, byte[] file)
    {
        var path = PathOf(stream, number, CheckpointFileName.Stored);
        try
        {
            DurableFile.Write(path, file);
            File.SetLastWriteTimeUtc(path, _clock.GetUtcNow().UtcDateTime);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            File.Delete(path + DurableFile.TemporaryExtension);
            File.Delete(path);
            throw;
        }
    }

    public byte[] Get(string stream, long number)
    {
        var path = PathOf(stream, number, CheckpointFileName.Stored);
        try
        {
            return File.ReadAllBytes(path);
        }
        catch (FileNotFoundException)
        {
            throw new CheckpointRefusedException("damaged", $"'{path}' was there and is gone");
        }
    }

    public CheckpointDescription? Describe(string stream, long number)
    {
        try
        {
            return DescribeFile(PathOf(stream, number, CheckpointFileName.Stored), number) is var described && described.Stream == stream ? described : null;
        }
        catch (Exception e) when (e is CheckpointRefusedException or FileNotFoundException)
        {
            return null;
        }
    }

    public void Remove(string stream, long number) => File.Delete(PathOf(stream, number, CheckpointFileName.Stored));

    public void SetAside(string stream, long number)
    {
        var path = PathOf(stream, number, CheckpointFileName.Stored);
        if (File.Exists(path))
        {
            File.Move(path, PathOf(stream, number, CheckpointFileName.Rejected), overwrite: true);
        }
    }

    public void RemoveSetAside(string stream, long number) => File.Delete(PathOf(stream, number, CheckpointFileName.Rejected));

    // The name is told inside, too: a long one is cut in the file's name. No flush: a mark that a crash loses is a word less.
    public void MarkDropped(string stream, long number) => File.WriteAllText(PathOf(stream, number, CheckpointFileName.Dropped), stream);

    public void UnmarkDropped(string stream, long number) => File.Delete(PathOf(stream, number, CheckpointFileName.Dropped));

    public void Dispose() => _lock.Dispose();

    /// <exception cref="StoreUnavailableException">The folder can't be read.</exception>
    public IEnumerable<FoundBlob> Find()
    {
        try
        {
            return Scan();
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            _lock.Dispose();
            throw new StoreUnavailableException($"the folder '{_folder}' (Store:Path) can't be read: {e.Message}", e);
        }
    }

    private string PathOf(string stream, long number, string extension) => Path.Combine(_folder, CheckpointFileName.Of(stream, number, extension));

    private List<FoundBlob> Scan()
    {
        var found = new List<FoundBlob>();
        var now = _clock.GetUtcNow().UtcDateTime;
        var rejected = new List<FileInfo>();
        foreach (var file in new DirectoryInfo(_folder).EnumerateFiles())
        {
            if (file.Extension == DurableFile.TemporaryExtension)
            {
                // A write that a crash cut short.
                file.Delete();
            }
            else if (CheckpointFileName.TryParse(file.Name, out var number, out var stream))
            {
                var kind = file.Extension switch
                {
                    CheckpointFileName.Rejected => BlobKind.Refused,
                    CheckpointFileName.Dropped => BlobKind.Dropped,
                    _ => BlobKind.Checkpoint,
                };
                if ((stream ?? OwnWord(file, number)) is { } key)
                {
                    found.Add(new FoundBlob(key, number, file.Length, now - file.LastWriteTimeUtc, kind));
                }

                if (kind == BlobKind.Refused)
                {
                    rejected.Add(file);
                }
            }
        }

        foreach (var file in rejected.OrderByDescending(file => file.LastWriteTimeUtc).Skip(MaxRejected))
        {
            file.Delete();
        }

        return found;
    }

    // Of a key too long for the name. A file that does not tell can't be opened by any key: it is set aside.
    private static string? OwnWord(FileInfo file, long number)
    {
        try
        {
            var stream = file.Extension == CheckpointFileName.Dropped ? File.ReadAllText(file.FullName) : DescribeFile(file.FullName, number).Stream;
            if (CheckpointFileName.Of(stream, number, file.Extension) == file.Name)
            {
                return stream;
            }
        }
        catch (CheckpointRefusedException)
        {
        }

        if (file.Extension == CheckpointFileName.Stored)
        {
            File.Move(file.FullName, Path.ChangeExtension(file.FullName, CheckpointFileName.Rejected), overwrite: true);
        }

        return null;
    }
}
