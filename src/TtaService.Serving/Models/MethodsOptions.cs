namespace TtaService.Serving.Models;

/// <summary>Which methods there are besides the engine's own, section <c>Methods</c>.</summary>
public sealed class MethodsOptions
{
    /// <summary>Assemblies of methods (.dll), each with a <c>MethodPlugin</c> attribute; they run in this process with all of its rights. Relative to the current
    /// directory. Default none.</summary>
    public string[] Assemblies { get; set; } = [];
}
