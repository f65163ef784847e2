using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Runtime.InteropServices;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A process of another program, for as long as the test needs it. What it prints is kept for the message of a failed start.</summary>
internal sealed partial class OtherProgram : IAsyncDisposable
{
    // Below those that systems hand out to connections (32768 and up on Linux).
    private const int FirstPort = 11_000;
    private const int Ports = 10_000;

    private const int SigInt = 2;
    private const int SigKill = 9;
    private const int SigTerm = 15;
    private const int SigCont = 18;
    private const int SigStop = 19;

    private static int _port = Environment.ProcessId * 61;

    private readonly Process _process;
    private readonly List<string> _printed = [];

    private OtherProgram(Process process)
    {
        _process = process;
        process.OutputDataReceived += (_, line) => Keep(line.Data);
        process.ErrorDataReceived += (_, line) => Keep(line.Data);
        process.BeginOutputReadLine();
        process.BeginErrorReadLine();
    }

    public string Printed
    {
        get
        {
            lock (_printed)
            {
                return string.Join('\n', _printed);
            }
        }
    }

    public int Id => _process.Id;

    public bool HasExited => _process.HasExited;

    public int ExitCode => _process.ExitCode;

    /// <summary>The program's path; skips the test when it is not installed.</summary>
    public static string Require(string program, string? package = null)
    {
        foreach (var folder in new[] { "/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin" })
        {
            if (File.Exists(Path.Combine(folder, program)))
            {
                return Path.Combine(folder, program);
            }
        }

        Assert.Skip($"{program} is not installed; apt-get install {package ?? program}");
        return program;
    }

    /// <summary>A port for a program that is about to start: none that connections take for their own end, and no two alike.</summary>
    public static int FreePort()
    {
        while (true)
        {
            var port = FirstPort + (int)((uint)Interlocked.Increment(ref _port) % Ports);
            try
            {
                using var listener = new TcpListener(IPAddress.Loopback, port);
                listener.Start();
                return port;
            }
            catch (SocketException)
            {
                // Another program has it.
            }
        }
    }

    public static OtherProgram Start(string program, IEnumerable<string> arguments, IReadOnlyDictionary<string, string>? environment = null, string? folder = null)
    {
        var start = new ProcessStartInfo(
            program, arguments)
        { RedirectStandardOutput = true, RedirectStandardError = true, UseShellExecute = false, WorkingDirectory = folder ?? string.Empty };
        foreach (var (name, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        return new OtherProgram(Process.Start(start)!);
    }

    /// <summary>Waits until it is as wanted.</summary>
    public async Task UntilAsync(Func<Task<bool>> wanted)
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (!await wanted())
        {
            Assert.False(_process.HasExited || giveUp.IsCancellationRequested, $"{_process.StartInfo.FileName} did not come up: {Printed}");
            await Task.Delay(20);
        }
    }

    /// <summary>Waits for its end; a publish or a build beside other work takes minutes.</summary>
    public async Task ExitAsync()
    {
        using var giveUp = new CancellationTokenSource(TimeSpan.FromMinutes(5));
        await _process.WaitForExitAsync(giveUp.Token);
    }

    /// <summary>Ends it without a warning.</summary>
    public Task KillAsync() => SignalAsync(SigKill, wait: true);

    /// <summary>Asks it to end.</summary>
    public Task TerminateAsync() => SignalAsync(SigTerm, wait: true);

    /// <summary>Asks it to end, and does not wait.</summary>
    /// <param name="interrupt">As Ctrl-C does; otherwise with SIGTERM.</param>
    public Task AskToEndAsync(bool interrupt) => SignalAsync(interrupt ? SigInt : SigTerm, wait: false);

    public Task PauseAsync() => SignalAsync(SigStop, wait: false);

    public Task ContinueAsync() => SignalAsync(SigCont, wait: false);

    public async ValueTask DisposeAsync()
    {
        if (!_process.HasExited)
        {
            await KillAsync();
        }

        _process.Dispose();
    }

    [LibraryImport("libc", EntryPoint = "kill", SetLastError = true)]
    private static partial int Signal(int process, int signal);

    private async Task SignalAsync(int signal, bool wait)
    {
        Assert.Equal(0, Signal(_process.Id, signal));
        if (wait)
        {
            await ExitAsync();
        }
    }

    private void Keep(string? line)
    {
        if (line is not null)
        {
            lock (_printed)
            {
                _printed.Add(line);
            }
        }
    }
}
