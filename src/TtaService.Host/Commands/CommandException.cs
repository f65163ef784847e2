namespace TtaService.Host.Commands;

/// <summary>Ends a command with a message for its user.</summary>
internal sealed class CommandException(string message, int exitCode = CommandException.Failure) : Exception(message)
{
    public const int Failure = 1;
    public const int Usage = 2;

    public int ExitCode { get; } = exitCode;

    public static CommandException WrongUse(string message) => new(message, Usage);
}
