using System.CommandLine;
using Spectre.Console;
using Spectre.Console.Rendering;

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
        Console = IsInteractive ? AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(Output) }) : Plain(Output);
    }

    public TextWriter Output { get; }

    public TextWriter Error { get; }

    public IAnsiConsole Console { get; }

    public bool IsInteractive { get; }

    /// <summary>Writes a table or the like; without the padding at the ends of lines when redirected.</summary>
    public void Write(IRenderable content)
    {
        if (IsInteractive)
        {
            Console.Write(content);
            return;
        }

        using var text = new StringWriter();
        var plain = Plain(text);
        plain.Write(content);
        foreach (var line in text.ToString().TrimEnd().Split('\n'))
        {
            Output.WriteLine(line.TrimEnd());
        }
    }

    public void Line(FormattableString text) => Output.WriteLine(FormattableString.Invariant(text));

    private static IAnsiConsole Plain(TextWriter output)
    {
        var console = AnsiConsole.Create(new AnsiConsoleSettings
        {
            Ansi = AnsiSupport.No,
            ColorSystem = ColorSystemSupport.NoColors,
            Interactive = InteractionSupport.No,
            Out = new AnsiConsoleOutput(output),
        });
        console.Profile.Width = RedirectedWidth;
        return console;
    }
}
