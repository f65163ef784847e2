using TtaService.Engine.Normalization;
using TtaService.Engine.Normalization.Plugins;
using TtaService.SampleMethods;

[assembly: MethodPlugin(typeof(Plugin))]

namespace TtaService.SampleMethods;

/// <summary>What this assembly offers.</summary>
public sealed class Plugin : IMethodPlugin
{
    public IEnumerable<MethodDefinition> Methods => [ClippedEma.Definition, Failing.Definition];
}
