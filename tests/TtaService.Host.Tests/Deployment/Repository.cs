using TtaService.Host.Tests.Infrastructure;

namespace TtaService.Host.Tests.Deployment;

/// <summary>The files of this repository.</summary>
internal static class Repository
{
    public static string Root { get; } = FindRoot(AppContext.BaseDirectory);

    public static string In(string path) => Path.Combine(Root, path);

    public static string Read(string path) => File.ReadAllText(In(path));

    /// <summary>Runs a program in the root and gives what it printed.</summary>
    public static async Task<(int ExitCode, string Printed)> RunAsync(string program, params string[] arguments)
    {
        await using var process = OtherProgram.Start(program, arguments, folder: Root);
        await process.ExitAsync();
        return (process.ExitCode, process.Printed);
    }

    private static string FindRoot(string folder) =>
        File.Exists(Path.Combine(folder, "TtaService.sln")) ? folder
            : FindRoot(Path.GetDirectoryName(folder) ?? throw new InvalidOperationException("no TtaService.sln above the tests"));
}
