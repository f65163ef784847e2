using System.Runtime.CompilerServices;
using TtaService.Client;

namespace TtaService.Host.Commands.Streaming;

/// <summary>What <c>tta stream</c> was told to send.</summary>
internal sealed class FrameInput
{
    private static readonly string[] VideoExtensions = [".mp4", ".m4v", ".mkv", ".mov", ".avi", ".webm", ".ts", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp"];
    private static readonly string[] MotionJpegExtensions = [".mjpeg", ".mjpg"];
    private static readonly string[] LiveSchemes = ["rtsp", "rtsps", "rtmp", "udp", "rtp", "srt"];

    private readonly IReadOnlyList<Part> _parts;
    private readonly double? _fps;
    private readonly bool _latest;

    private FrameInput(IReadOnlyList<Part> parts, double? fps, bool latest) => (_parts, _fps, _latest) = (parts, fps, latest);

    private enum Kind
    {
        Image,
        Folder,
        GrowingFolder,
        MotionJpeg,
        StandardInput,
        Video,
        Camera,
    }

    /// <summary>Frames in all; null when that is not known before.</summary>
    public int? Count { get; private init; }

    /// <exception cref="CommandException">Something is not there, or of no use.</exception>
    public static FrameInput Parse(IReadOnlyList<string> sources, FileInfo? list, bool follow, double? fps, bool latest)
    {
        var parts = new List<Part>();
        if (list is not null)
        {
            parts.AddRange(ReadList(list).Select(path => Read(path, follow: false)));
        }

        parts.AddRange(sources.Select(source => Read(source, follow)));
        if (parts.Count == 0)
        {
            throw CommandException.WrongUse("nothing to send; give images, folders, a video, an address, a camera or - (tta stream --help)");
        }

        if (follow && !parts.Exists(part => part.Kind == Kind.GrowingFolder))
        {
            throw CommandException.WrongUse("--follow is for folders, and none is given");
        }

        return new FrameInput(parts, fps, latest) { Count = CountOf(parts) };
    }

    /// <summary>All frames, one source after the other.</summary>
    public IAsyncEnumerable<SourceFrame> ReadAsync(Action<SourceFrame> leftOut, CancellationToken cancel)
    {
        var frames = ConcatenateAsync(cancel);
        if (_latest || _parts.Any(part => part.Kind == Kind.Camera))
        {
            frames = FrameSource.Newest(frames, leftOut, cancel);
        }

        return _fps is { } fps ? FrameSource.Paced(frames, fps, cancel: cancel) : frames;
    }

    private async IAsyncEnumerable<SourceFrame> ConcatenateAsync([EnumeratorCancellation] CancellationToken cancel)
    {
        foreach (var part in _parts)
        {
            await foreach (var frame in FramesOf(part, cancel).WithCancellation(cancel).ConfigureAwait(false))
            {
                yield return part.Kind is Kind.Image or Kind.Folder or Kind.GrowingFolder ? frame : frame with { Name = $"{part.Source}#{frame.Name}" };
            }
        }
    }

    private IAsyncEnumerable<SourceFrame> FramesOf(Part part, CancellationToken cancel) => part.Kind switch
    {
        Kind.Image => FrameSource.Files([part.Source], cancel),
        Kind.Folder or Kind.GrowingFolder => FrameSource.Folder(part.Source, part.Kind == Kind.GrowingFolder, cancel: cancel),
        Kind.StandardInput => FrameSource.MotionJpeg(Console.OpenStandardInput(), cancel: cancel),
        Kind.MotionJpeg => OfFileAsync(part.Source, cancel),
        _ => Ffmpeg.ReadAsync(part.Source, _fps, cancel),
    };

    private static async IAsyncEnumerable<SourceFrame> OfFileAsync(string path, [EnumeratorCancellation] CancellationToken cancel)
    {
        var file = File.OpenRead(path);
        await using var disposal = file.ConfigureAwait(false);
        await foreach (var frame in FrameSource.MotionJpeg(file, cancel: cancel).ConfigureAwait(false))
        {
            yield return frame;
        }
    }

    private static Part Read(string source, bool follow)
    {
        if (source == "-")
        {
            return new Part(source, Kind.StandardInput);
        }

        if (source.Contains("://", StringComparison.Ordinal))
        {
            Ffmpeg.Require(source);
            return new Part(source, LiveSchemes.Contains(source[..source.IndexOf(':', StringComparison.Ordinal)], StringComparer.OrdinalIgnoreCase) ? Kind.Camera : Kind.Video);
        }

        if (source.StartsWith("/dev/", StringComparison.Ordinal))
        {
            Ffmpeg.Require(source);
            return File.Exists(source) ? new Part(source, Kind.Camera) : throw CommandException.WrongUse($"{source} does not exist; cameras are listed by ls /dev/video*");
        }

        if (Directory.Exists(source))
        {
            return follow || Images(source) > 0
                ? new Part(source, follow ? Kind.GrowingFolder : Kind.Folder)
                : throw CommandException.WrongUse($"{source} holds no image ({string.Join(' ', FrameSource.ImageExtensions)}); "
                    + "give a folder that does, or --follow to wait for them");
        }

        if (!File.Exists(source))
        {
            throw CommandException.WrongUse($"{source} does not exist; give image files or folders of them, a video, an address, a camera, or - for standard input");
        }

        var extension = Path.GetExtension(source).ToLowerInvariant();
        if (VideoExtensions.Contains(extension))
        {
            Ffmpeg.Require(source);
            return new Part(source, Kind.Video);
        }

        return new Part(source, MotionJpegExtensions.Contains(extension) ? Kind.MotionJpeg : Kind.Image);
    }

    private static IEnumerable<string> ReadList(FileInfo list)
    {
        if (!list.Exists)
        {
            throw CommandException.WrongUse($"--list {list} does not exist; give a text file with a path a line");
        }

        return File.ReadLines(list.FullName).Select(line => line.Trim()).Where(line => line.Length > 0 && line[0] != '#').Select(line => Path.Combine(list.DirectoryName!, line));
    }

    private static int? CountOf(List<Part> parts) => parts.TrueForAll(part => part.Kind is Kind.Image or Kind.Folder)
        ? parts.Sum(part => part.Kind == Kind.Image ? 1 : Images(part.Source))
        : null;

    private static int Images(string folder) => Directory
        .EnumerateFiles(folder, "*", SearchOption.AllDirectories)
        .Count(file => FrameSource.ImageExtensions.Contains(Path.GetExtension(file).ToLowerInvariant()));

    private readonly record struct Part(string Source, Kind Kind);
}
