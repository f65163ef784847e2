namespace TtaService.Engine.Normalization.Plugins;

/// <summary>The methods that an assembly offers; its <see cref="MethodPluginAttribute"/> names the class.</summary>
public interface IMethodPlugin
{
    /// <summary>What is registered, once, when the assembly is loaded.</summary>
    IEnumerable<MethodDefinition> Methods { get; }
}
