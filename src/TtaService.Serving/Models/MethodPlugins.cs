using Microsoft.Extensions.Options;
using TtaService.Engine.Normalization;

namespace TtaService.Serving.Models;

/// <summary>Loads the assemblies of methods that the settings name, once; what is wrong with them ends the start.</summary>
internal sealed class MethodPlugins : IValidateOptions<MethodsOptions>
{
    private readonly Lock _lock = new();
    private MethodRegistry? _methods;

    /// <summary>The methods of valid options.</summary>
    public MethodRegistry Of(MethodsOptions options)
    {
        lock (_lock)
        {
            return _methods ??= Load(options);
        }
    }

    public ValidateOptionsResult Validate(string? name, MethodsOptions options)
    {
        try
        {
            Of(options);
            return ValidateOptionsResult.Success;
        }
        catch (MethodRegistrationException wrong)
        {
            return ValidateOptionsResult.Fail(wrong.Message);
        }
    }

    /// <summary>The engine's methods and those of the options' assemblies.</summary>
    /// <exception cref="MethodRegistrationException">An assembly can't be used; the message names the setting, and says why and what to do.</exception>
    public static MethodRegistry Load(MethodsOptions options)
    {
        var methods = MethodRegistry.BuiltIn;
        for (var i = 0; i < options.Assemblies.Length; i++)
        {
            var (key, path) = ($"Methods:Assemblies:{i}", options.Assemblies[i]);
            if (string.IsNullOrWhiteSpace(path))
            {
                throw new MethodRegistrationException($"{key} is empty; name the file of an assembly of methods, or leave the setting out");
            }

            methods = With(methods, key, path);
        }

        return methods;
    }

    /// <summary>A registry with the methods of an assembly, too.</summary>
    /// <param name="methods">The registry.</param>
    /// <param name="where">The setting or option that names the assembly, for people.</param>
    /// <param name="path">The assembly.</param>
    /// <exception cref="MethodRegistrationException">It can't be used; the message names the setting, and says why and what to do.</exception>
    public static MethodRegistry With(MethodRegistry methods, string where, string path)
    {
        try
        {
            return methods.WithAssembly(path);
        }
        catch (MethodRegistrationException wrong)
        {
            throw new MethodRegistrationException($"{where}: {wrong.Message}", wrong);
        }
    }
}
