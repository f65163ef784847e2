using System.Runtime.InteropServices;

namespace TtaService.Host.Commands;

/// <summary>Ctrl-C and SIGTERM: the first asks the command to end with what it has, the second ends the process at once.</summary>
internal sealed partial class TerminationSignals : IDisposable
{
    /// <summary>The exit code of a command that was interrupted with Ctrl-C: 128 and the signal's number.</summary>
    public const int Interrupted = 130;

    private const int Terminated = 143;

    // Longer than any command takes to write down what it has.
    private static readonly TimeSpan Grace = TimeSpan.FromSeconds(30);

    private readonly CancellationTokenSource _source = new();
    private readonly PosixSignalRegistration[] _registrations;
    private int _exitCode;

    public TerminationSignals() => _registrations =
    [
        PosixSignalRegistration.Create(PosixSignal.SIGINT, signal => Take(signal, Interrupted)),
        PosixSignalRegistration.Create(PosixSignal.SIGTERM, signal => Take(signal, Terminated)),
    ];

    /// <summary>Cancelled by the first signal.</summary>
    public CancellationToken Token => _source.Token;

    /// <summary>The exit code that stands for the first signal.</summary>
    public int ExitCode => _exitCode == 0 ? Interrupted : _exitCode;

    /// <summary>The server saves its streams within limits of its own, and is not to be cut off by a second signal.</summary>
    public bool WaitsForTheCommand { get; set; }

    public void Dispose()
    {
        Array.ForEach(_registrations, registration => registration.Dispose());
        _source.Dispose();
    }

    // Not Environment.Exit: it runs what native libraries do at the end, while their threads still work.
    [LibraryImport("libc", EntryPoint = "_exit")]
    private static partial void ExitAtOnce(int code);

    private static void Quit(int code)
    {
        Console.Out.Flush();
        if (OperatingSystem.IsWindows())
        {
            Environment.Exit(code);
        }

        ExitAtOnce(code);
    }

    private void Take(PosixSignalContext signal, int code)
    {
        signal.Cancel = true;
        if (Interlocked.CompareExchange(ref _exitCode, code, 0) != 0)
        {
            if (!WaitsForTheCommand)
            {
                Quit(code);
            }

            return;
        }

        // Elsewhere: what hears of it must not hold up the next signal.
        _ = Task.Run(CancelAsync);
    }

    private async Task CancelAsync()
    {
        await _source.CancelAsync().ConfigureAwait(false);
        await Task.Delay(Grace, CancellationToken.None).ConfigureAwait(false);
        if (!WaitsForTheCommand)
        {
            Quit(ExitCode);
        }
    }
}
