using System.CommandLine;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;

namespace TtaService.Host.Commands;

/// <summary>The methods that a command knows: the engine's own, and those of assemblies that the settings or its user name.</summary>
internal static class KnownMethods
{
    /// <summary>Assemblies besides those of the settings.</summary>
    public static Option<string[]> PluginOption() => new("--plugin")
    {
        Description = "An assembly of methods besides the own ones and those of Methods:Assemblies; its code runs with the rights of this program.",
        HelpName = "FILE.dll",
    };

    /// <exception cref="MethodRegistrationException">An assembly can't be used; the message says why.</exception>
    public static MethodRegistry Of(ParseResult parsed, Option<string[]> plugins) => With(parsed.GetValue(plugins) ?? []);

    /// <summary>The engine's own and those of the settings (appsettings.json beside the program, <c>Methods__Assemblies__0</c> in the environment), as the server has
    /// them.</summary>
    /// <exception cref="MethodRegistrationException">An assembly can't be used; the message says why.</exception>
    public static MethodRegistry OfSettings() => With([]);

    private static MethodRegistry With(string[] plugins)
    {
        var settings = new ConfigurationBuilder().AddJsonFile(Path.Combine(AppContext.BaseDirectory, "appsettings.json"), optional: true).AddEnvironmentVariables().Build();
        var methods = MethodPlugins.Load(new MethodsOptions { Assemblies = settings.GetSection("Methods:Assemblies").Get<string[]>() ?? [] });
        return plugins.Aggregate(methods, (known, plugin) => MethodPlugins.With(known, "--plugin", plugin));
    }
}
