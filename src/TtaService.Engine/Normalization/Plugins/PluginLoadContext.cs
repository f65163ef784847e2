using System.Reflection;
using System.Runtime.Loader;

namespace TtaService.Engine.Normalization.Plugins;

/// <summary>Where a plug-in's assemblies live: its own dependencies come from beside it, the engine and torch are the process's.</summary>
internal sealed class PluginLoadContext(string path) : AssemblyLoadContext($"methods of {Path.GetFileName(path)}")
{
    private readonly AssemblyDependencyResolver _resolver = new(path);

    protected override Assembly? Load(AssemblyName name)
    {
        // A second copy of the contract would have other types of the same names, a second TorchSharp another torch.
        return name.Name is not ("TtaService.Engine" or "TorchSharp") && _resolver.ResolveAssemblyToPath(name) is { } own ? LoadFromAssemblyPath(own) : null;
    }

    protected override nint LoadUnmanagedDll(string name) => _resolver.ResolveUnmanagedDllToPath(name) is { } own ? LoadUnmanagedDllFromPath(own) : 0;
}
