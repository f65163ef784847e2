using System.CommandLine;
using Spectre.Console;

namespace TtaService.Host.Commands;

/// <summary>Where a command writes: rich on a terminal, plain lines when output is redirected.</summary>
internal sealed class Terminal
{
    // Wide enough that no table of a file or a pipe wraps.
    private const int RedirectedWidth = 400;

    public Terminal(InvocationConfiguration invocation)
    {
        (Output, Error) = (invocation.Output, invocation.Error);
        IsInteractive = ReferenceEquals(invocation.Output, System.Console.Out) && !System.Console.IsOutputRedirected;
        Console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = IsInteractive ? AnsiSupport.Detect : AnsiSupport.No,
            ColorSystem = IsInteractive ? ColorSystemSupport.Detect : ColorSystemSupport.NoColors,
            Interactive = IsInteractive ? InteractionSupport.Detect : InteractionSupport.No,
            Out = new AnsiConsoleOutput(invocation.Output),
        });
        if (!IsInteractive)
        {
            Console.Profile.Width = RedirectedWidth;
        }
    }

    public TextWriter Output { get; }

    public TextWriter Error { get; }

    public IAnsiConsole Console { get; }

    public bool IsInteractive { get; }

    public void Line(FormattableString text) => Output.WriteLine(FormattableString.Invariant(text));
}
