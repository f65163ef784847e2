using System.Globalization;
using System.Runtime.CompilerServices;
using System.Threading.Channels;
using Google.Protobuf;
using TtaService.V1;

namespace TtaService.Client;

/// <summary>Where frames come from: files, folders, byte arrays, a motion JPEG stream.</summary>
public static class FrameSource
{
    private static readonly TimeSpan DefaultPoll = TimeSpan.FromMilliseconds(500);
    private static readonly string[] Extensions = [".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"];

    /// <summary>The endings of files that <see cref="Folder"/> takes, lower case.</summary>
    public static IReadOnlyList<string> ImageExtensions => Extensions;

    /// <summary>Encoded images as they are.</summary>
    /// <param name="images">Whole JPEG, PNG or WebP files; not copied, so they must not change until they are answered.</param>
    public static async IAsyncEnumerable<SourceFrame> Bytes(IEnumerable<ReadOnlyMemory<byte>> images)
    {
        ArgumentNullException.ThrowIfNull(images);
        await Task.CompletedTask.ConfigureAwait(false);
        var number = 0;
        foreach (var image in images)
        {
            yield return Encoded(Numbered(++number), image);
        }
    }

    /// <summary>Files in the order given.</summary>
    /// <exception cref="IOException">One can't be read.</exception>
    public static async IAsyncEnumerable<SourceFrame> Files(IEnumerable<string> paths, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(paths);
        foreach (var path in paths)
        {
            yield return Encoded(path, await File.ReadAllBytesAsync(path, cancel).ConfigureAwait(false));
        }
    }

    /// <summary>The images of a folder and the folders in it, by path.</summary>
    /// <param name="folder">The folder.</param>
    /// <param name="follow">Go on with images that are added, until it is cancelled. A file is taken when it has not changed between two looks, so one that is still
    /// being written waits.</param>
    /// <param name="poll">Between two looks; null for half a second.</param>
    /// <param name="clock">The clock of the looks; null for the system's.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such folder.</exception>
    public static async IAsyncEnumerable<SourceFrame> Folder(
        string folder, bool follow = false, TimeSpan? poll = null, TimeProvider? clock = null, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        var sent = new HashSet<string>(StringComparer.Ordinal);
        var growing = new Dictionary<string, (long Length, DateTime Written)>(StringComparer.Ordinal);
        while (true)
        {
            var images = new DirectoryInfo(folder).EnumerateFiles("*", SearchOption.AllDirectories).Where(IsImage).OrderBy(file => file.FullName, StringComparer.Ordinal);
            foreach (var file in images.ToList())
            {
                var path = Path.Combine(folder, Path.GetRelativePath(folder, file.FullName));
                if (sent.Contains(path) || (follow && !IsWhole(growing, path, file)))
                {
                    continue;
                }

                sent.Add(path);
                growing.Remove(path);
                yield return Encoded(path, await File.ReadAllBytesAsync(file.FullName, cancel).ConfigureAwait(false));
            }

            if (!follow)
            {
                yield break;
            }

            await Task.Delay(poll ?? DefaultPoll, clock ?? TimeProvider.System, cancel).ConfigureAwait(false);
        }
    }

    /// <summary>JPEG images one after the other, as cameras and <c>ffmpeg -f image2pipe -c:v mjpeg</c> write them; what lies between two of them (a multipart
    /// boundary) is passed over.</summary>
    /// <param name="stream">Read to its end, not closed.</param>
    /// <param name="maxFrameBytes">Longest image; default 16 MiB.</param>
    /// <param name="cancel">Ends it.</param>
    /// <exception cref="InvalidDataException">An image is longer, or the stream ends within one.</exception>
    public static async IAsyncEnumerable<SourceFrame> MotionJpeg(System.IO.Stream stream, int maxFrameBytes = 16 << 20, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(stream);
        var splitter = new JpegSplitter(maxFrameBytes);
        var buffer = new byte[64 * 1024];
        var number = 0;
        int read;
        while ((read = await stream.ReadAsync(buffer, cancel).ConfigureAwait(false)) > 0)
        {
            foreach (var image in splitter.Add(buffer.AsMemory(0, read)))
            {
                yield return Encoded(Numbered(++number), image);
            }
        }

        splitter.End();
    }

    /// <summary>Only the newest frame of a source that does not wait, a camera: what comes while the server is busy is left out.</summary>
    /// <param name="frames">The source; read as fast as it gives.</param>
    /// <param name="leftOut">Told of each frame that is left out; null for nobody.</param>
    /// <param name="cancel">Ends it.</param>
    public static async IAsyncEnumerable<SourceFrame> Newest(
        IAsyncEnumerable<SourceFrame> frames, Action<SourceFrame>? leftOut = null, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(frames);
        var place = new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropOldest, SingleReader = true, SingleWriter = true };
        var newest = Channel.CreateBounded<SourceFrame>(place, frame => leftOut?.Invoke(frame));
        using var ending = CancellationTokenSource.CreateLinkedTokenSource(cancel);
        var reading = ReadAsync(frames, newest.Writer, ending.Token);
        try
        {
            await foreach (var frame in newest.Reader.ReadAllAsync(cancel).ConfigureAwait(false))
            {
                yield return frame;
            }
        }
        finally
        {
            await ending.CancelAsync().ConfigureAwait(false);
            await reading.ConfigureAwait(false);
        }
    }

    /// <summary>At most so many frames a second.</summary>
    public static async IAsyncEnumerable<SourceFrame> Paced(
        IAsyncEnumerable<SourceFrame> frames, double framesPerSecond, TimeProvider? clock = null, [EnumeratorCancellation] CancellationToken cancel = default)
    {
        ArgumentNullException.ThrowIfNull(frames);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(framesPerSecond);
        var time = clock ?? TimeProvider.System;
        var period = TimeSpan.FromSeconds(1 / framesPerSecond);
        var began = time.GetTimestamp();
        var due = TimeSpan.Zero;
        await foreach (var frame in frames.WithCancellation(cancel).ConfigureAwait(false))
        {
            var now = time.GetElapsedTime(began);
            if (due > now)
            {
                await Task.Delay(due - now, time, cancel).ConfigureAwait(false);
            }

            yield return frame;
            // A source that was late does not catch up in a burst.
            due = (due > now ? due : now) + period;
        }
    }

    private static async Task ReadAsync(IAsyncEnumerable<SourceFrame> frames, ChannelWriter<SourceFrame> newest, CancellationToken cancel)
    {
        try
        {
            await foreach (var frame in frames.WithCancellation(cancel).ConfigureAwait(false))
            {
                newest.TryWrite(frame);
            }

            newest.Complete();
        }
        catch (Exception ended)
        {
            newest.Complete(ended);
        }
    }

    private static bool IsImage(FileInfo file) => Extensions.Contains(file.Extension, StringComparer.OrdinalIgnoreCase);

    private static bool IsWhole(Dictionary<string, (long Length, DateTime Written)> growing, string path, FileInfo file)
    {
        var now = (file.Length, file.LastWriteTimeUtc);
        var same = file.Length > 0 && growing.TryGetValue(path, out var before) && before == now;
        growing[path] = now;
        return same;
    }

    private static SourceFrame Encoded(string name, ReadOnlyMemory<byte> image) => new(name, new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(image) });

    private static string Numbered(int number) => number.ToString(CultureInfo.InvariantCulture);
}
