using System.Reflection;

namespace TtaService.Engine.Normalization.Plugins;

/// <summary>Brings the methods of an assembly into a registry.</summary>
internal static class PluginAssembly
{
    private const string HowTo = "an assembly of methods has [assembly: MethodPlugin(typeof(T))], T a class with IMethodPlugin and a public constructor without parameters";

    /// <summary>A registry with the methods of an assembly, too.</summary>
    /// <exception cref="MethodRegistrationException">It can't be used; the message says why and what to do.</exception>
    public static MethodRegistry Register(MethodRegistry methods, string path)
    {
        var full = Path.GetFullPath(path);
        if (!File.Exists(full))
        {
            throw new MethodRegistrationException($"there is no file '{full}'; name the assembly (.dll) of the methods");
        }

        var plugin = Begin(full, Load(full));
        MethodDefinition[] definitions;
        try
        {
            definitions = [.. plugin.Methods ?? throw new MethodAnswerException("Methods is null; give an empty list where there are none")];
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            throw Failed(full, "failed when it was asked for its methods", fault);
        }

        if (definitions.Length == 0)
        {
            throw new MethodRegistrationException($"'{full}' offers no method; {plugin.GetType().Name}.Methods is empty");
        }

        try
        {
            return methods.With(definitions);
        }
        catch (MethodRegistrationException wrong)
        {
            throw new MethodRegistrationException($"'{full}': {wrong.Message}", wrong);
        }
    }

    private static Assembly Load(string path)
    {
        try
        {
            return new PluginLoadContext(path).LoadFromAssemblyPath(path);
        }
        catch (Exception unusable) when (unusable is BadImageFormatException or FileLoadException or IOException or UnauthorizedAccessException or InvalidOperationException)
        {
            throw Failed(path, "is no .NET assembly that this process can load (it takes net10.0 or earlier)", unusable);
        }
    }

    private static IMethodPlugin Begin(string path, Assembly assembly)
    {
        var named = Named(path, assembly);
        var (type, contract) = (named.Plugin, named.Contract);
        if (contract != MethodPluginAttribute.CurrentContract)
        {
            throw new MethodRegistrationException($"'{path}' is built against contract {contract} of methods, this release has contract {MethodPluginAttribute.CurrentContract}; "
                + "build it against the TtaService.Engine package of this release");
        }

        if (type is null || !typeof(IMethodPlugin).IsAssignableFrom(type) || type.IsAbstract || type.GetConstructor(Type.EmptyTypes) is not { } constructor)
        {
            throw new MethodRegistrationException($"'{path}' names {type?.FullName ?? "no type"}, which can't be its methods; {HowTo}");
        }

        try
        {
            return (IMethodPlugin)constructor.Invoke(null);
        }
        catch (TargetInvocationException thrown) when (thrown.InnerException is { } fault && MethodFault.IsOwn(fault))
        {
            throw Failed(path, $"failed in the constructor of {type.FullName}", fault);
        }
        catch (Exception fault) when (MethodFault.IsOwn(fault))
        {
            throw Failed(path, $"failed before the constructor of {type.FullName}", fault);
        }
    }

    private static MethodPluginAttribute Named(string path, Assembly assembly)
    {
        try
        {
            return assembly.GetCustomAttribute<MethodPluginAttribute>() ?? throw new MethodRegistrationException($"'{path}' offers no methods; {HowTo}");
        }
        catch (Exception unreadable) when (unreadable is not MethodRegistrationException && MethodFault.IsOwn(unreadable))
        {
            // A type or an attribute that is not what it was when the assembly was built.
            throw Failed(path, "does not fit this release; build it against its TtaService.Engine package", unreadable);
        }
    }

    private static MethodRegistrationException Failed(string path, string what, Exception why) =>
        new($"'{path}' {what}: {why.GetType().Name}: {ForeignText.Clip(why.Message, 300)}", why);
}
