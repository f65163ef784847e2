using System.Diagnostics;
using System.Globalization;
using System.Runtime.CompilerServices;
using TtaService.Client;

namespace TtaService.Host.Commands.Streaming;

/// <summary>Frames of a video file, an address or a camera, as JPEG by an ffmpeg that is installed.</summary>
internal static class Ffmpeg
{
    private const string Program = "ffmpeg";

    /// <exception cref="CommandException">It is not installed.</exception>
    public static void Require(string source)
    {
        var folders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries);
        string[] names = OperatingSystem.IsWindows() ? [$"{Program}.exe"] : [Program];
        if (!Array.Exists(folders, folder => Array.Exists(names, name => File.Exists(Path.Combine(folder, name)))))
        {
            throw new CommandException($"{source} needs ffmpeg, which is not on the PATH; install it (apt-get install ffmpeg), or pipe JPEG images to 'tta stream -'");
        }
    }

    public static async IAsyncEnumerable<SourceFrame> ReadAsync(string source, double? fps, [EnumeratorCancellation] CancellationToken cancel)
    {
        var start = new ProcessStartInfo(Program, Arguments(source, fps)) { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false };
        using var process = Process.Start(start)!;
        try
        {
            var said = process.StandardError.ReadToEndAsync(cancel);
            await foreach (var frame in FrameSource.MotionJpeg(process.StandardOutput.BaseStream, cancel: cancel).ConfigureAwait(false))
            {
                yield return frame;
            }

            await process.WaitForExitAsync(cancel).ConfigureAwait(false);
            if (process.ExitCode != 0)
            {
                throw new CommandException($"ffmpeg could not read {source}: {(await said.ConfigureAwait(false)).Trim().Split('\n')[^1].Trim()}");
            }
        }
        finally
        {
            if (!process.HasExited)
            {
                process.Kill();
            }
        }
    }

    private static List<string> Arguments(string source, double? fps)
    {
        List<string> arguments = ["-nostdin", "-hide_banner", "-loglevel", "error"];
        if (source.StartsWith("rtsp", StringComparison.OrdinalIgnoreCase))
        {
            // Over UDP, lost packets become invented pixels.
            arguments.AddRange(["-rtsp_transport", "tcp"]);
        }
        else if (source.StartsWith("/dev/", StringComparison.Ordinal))
        {
            arguments.AddRange(["-f", "v4l2"]);
        }

        arguments.AddRange(["-i", source, "-an"]);
        if (fps is { } rate)
        {
            arguments.AddRange(["-vf", string.Create(CultureInfo.InvariantCulture, $"fps={rate}")]);
        }
        else
        {
            // Each frame once, also where their times are uneven.
            arguments.AddRange(["-vsync", "passthrough"]);
        }

        // Near the best quality: what compression does to a frame is learned as the camera's.
        arguments.AddRange(["-f", "image2pipe", "-c:v", "mjpeg", "-q:v", "2", "pipe:1"]);
        return arguments;
    }
}
