using TtaService.Host.Tests.Deployment;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>The system's Python with Debian's packages; whatever else is first on the PATH knows nothing of them.</summary>
internal static class DebianPython
{
    /// <summary>Its path; skips the test when a module is missing.</summary>
    public static async Task<string> RequireAsync(params (string Module, string Package)[] modules)
    {
        var python = OtherProgram.Require("python3");
        foreach (var (module, package) in modules)
        {
            if ((await Repository.RunAsync(python, "-c", $"import {module}")).ExitCode != 0)
            {
                Assert.Skip($"Python's {module} is not installed; apt-get install {package}");
            }
        }

        return python;
    }
}
