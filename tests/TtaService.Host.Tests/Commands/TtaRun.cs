using System.Text;

namespace TtaService.Host.Tests.Commands;

/// <summary>One run of the <c>tta</c> program in this process, with what it wrote.</summary>
internal sealed record TtaRun(int ExitCode, string Output, string Error)
{
    public static async Task<TtaRun> Of(params string[] arguments)
    {
        using var output = new StringWriter(new StringBuilder());
        using var error = new StringWriter(new StringBuilder());
        var exitCode = await Program.RunAsync(arguments, TextWriter.Synchronized(output), TextWriter.Synchronized(error), TestContext.Current.CancellationToken);
        return new TtaRun(exitCode, output.ToString(), error.ToString());
    }

    public string[] Lines => Output.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);

    /// <summary>A failure after it began: its last line says so, without a stack trace.</summary>
    public void AssertFails(int exitCode, params string[] said)
    {
        Assert.Equal(exitCode, ExitCode);
        var last = Error.TrimEnd().Split('\n')[^1];
        Assert.StartsWith("tta: ", last, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
        Assert.All(said, words => Assert.Contains(words, last, StringComparison.Ordinal));
    }

    /// <summary>A refusal is one line that starts with the program's name and has no stack trace.</summary>
    public void AssertRefused(int exitCode, params string[] said)
    {
        Assert.Equal(exitCode, ExitCode);
        Assert.StartsWith("tta: ", Error, StringComparison.Ordinal);
        Assert.DoesNotContain("   at ", Error, StringComparison.Ordinal);
        Assert.Single(Error.TrimEnd().Split('\n'));
        Assert.All(said, words => Assert.Contains(words, Error, StringComparison.Ordinal));
    }
}
