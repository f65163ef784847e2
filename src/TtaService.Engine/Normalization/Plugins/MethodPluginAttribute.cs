namespace TtaService.Engine.Normalization.Plugins;

/// <summary>Makes an assembly one of methods: <c>[assembly: MethodPlugin(typeof(MyMethods))]</c>.</summary>
/// <param name="plugin">A class with <see cref="IMethodPlugin"/> and a constructor without parameters.</param>
/// <param name="contract">Leave it out: the compiler puts the contract there that the assembly is built against.</param>
[AttributeUsage(AttributeTargets.Assembly)]
public sealed class MethodPluginAttribute(Type plugin, int contract = MethodPluginAttribute.CurrentContract) : Attribute
{
    /// <summary>The contract of this release: what <see cref="INormalizationMethod"/>, and all that it shows a method, look like. Another number for every change
    /// that methods which were built before it do not survive.</summary>
    public const int CurrentContract = 1;

    /// <summary>The class with the methods.</summary>
    public Type Plugin { get; } = plugin;

    /// <summary>The contract that the assembly is built against.</summary>
    public int Contract { get; } = contract;
}
