using System.CommandLine;
using System.CommandLine.Parsing;

namespace TtaService.Host.Commands;

/// <summary>Why a command line can't be run, in one line, with what a mistyped command or option may have meant; System.CommandLine's own suggestions come with its
/// own report only.</summary>
internal static class Refusal
{
    private const int MostEdits = 3;

    /// <summary>Null when it can be run.</summary>
    public static string? Of(ParseResult parsed)
    {
        // Where arguments are free, a mistyped option is taken for one.
        var option = parsed.Tokens.TakeWhile(token => token.Type != TokenType.DoubleDash).FirstOrDefault(token => token is { Type: TokenType.Argument, Value: ['-', '-', _, ..] });
        if (option is not null)
        {
            return $"'{option.Value}' is no option of this command.{Nearest(parsed, option.Value)}";
        }

        if (parsed.Errors.Count == 0)
        {
            return null;
        }

        // A wrong value or word says more than something that is missing.
        var worst = parsed.Errors.OrderBy(problem => IsMissing(problem.Message)).First();
        var word = parsed.UnmatchedTokens.FirstOrDefault(token => worst.Message.Contains($"'{token}'", StringComparison.Ordinal));
        return $"{worst.Message}{(word is null ? "" : Nearest(parsed, word))}";
    }

    private static bool IsMissing(string message) => message.EndsWith("is required.", StringComparison.Ordinal) || message.StartsWith("Required", StringComparison.Ordinal);

    private static string Nearest(ParseResult parsed, string wrong)
    {
        var near = Known(parsed.CommandResult, wrong.StartsWith('-'))
            .Select(name => (Name: name, Edits: Edits(wrong, name)))
            .Where(candidate => candidate.Edits <= Math.Min(MostEdits, wrong.Length / 2))
            .OrderBy(candidate => candidate.Edits).ThenBy(candidate => candidate.Name, StringComparer.Ordinal)
            .ToList();
        return near.Count == 0 ? "" : $" Did you mean {string.Join(" or ", near.Where(candidate => candidate.Edits == near[0].Edits).Select(candidate => $"'{candidate.Name}'"))}?";
    }

    private static IEnumerable<string> Known(CommandResult command, bool options)
    {
        if (!options)
        {
            return command.Command.Subcommands.Where(one => !one.Hidden).Select(one => one.Name);
        }

        var own = command.Command.Options.AsEnumerable();
        for (var above = command.Parent as CommandResult; above is not null; above = above.Parent as CommandResult)
        {
            own = own.Concat(above.Command.Options.Where(option => option.Recursive));
        }

        return own.Where(option => !option.Hidden).Select(option => option.Name);
    }

    // Levenshtein's distance; two neighbours in the wrong order count as one edit.
    private static int Edits(string from, string to)
    {
        var table = new int[from.Length + 1, to.Length + 1];
        for (var i = 0; i <= from.Length; i++)
        {
            for (var j = 0; j <= to.Length; j++)
            {
                if (i == 0 || j == 0)
                {
                    table[i, j] = i + j;
                    continue;
                }

                var best = Math.Min(table[i - 1, j] + 1, table[i, j - 1] + 1);
                best = Math.Min(best, table[i - 1, j - 1] + (from[i - 1] == to[j - 1] ? 0 : 1));
                var swapped = i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1];
                table[i, j] = swapped ? Math.Min(best, table[i - 2, j - 2] + 1) : best;
            }
        }

        return table[from.Length, to.Length];
    }
}
