using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Normalization.Auto;

namespace TtaService.Engine.Normalization;

/// <summary>The methods that exist. A new method is one file and one line here.</summary>
public static class NormalizationMethods
{
    private static readonly MethodDefinition[] Definitions =
    [
        Source.Definition,
        Tbn.Definition,
        AlphaBn.Definition,
        Prior.Definition,
        Ema.Definition,
        Tbr.Definition,
        Adaptive.Definition,
        UnmixTns.Definition,
        Iabn.Definition,
        Tent.Definition,
        AutoMethod.Definition,
    ];

    private static readonly Dictionary<string, MethodDefinition> ByName = Definitions.ToDictionary(d => d.Name, StringComparer.Ordinal);

    /// <summary>Every method, with what a user needs to choose it.</summary>
    public static IReadOnlyList<MethodDescription> All { get; } =
        [.. Definitions.Select(d => new MethodDescription(d.Name, d.Summary, d.Source, [.. d.Hyperparameters.Select(h => h.Describe())], d.Warning))];

    internal static IEnumerable<string> Names => Definitions.Select(d => d.Name);

    internal static MethodDefinition? Find(string name) => ByName.GetValueOrDefault(name);
}

/// <summary>What a method is and what can be set.</summary>
/// <param name="Name">Its name on the wire and in configuration.</param>
/// <param name="Summary">One sentence.</param>
/// <param name="Source">Paper and code that it follows.</param>
/// <param name="Hyperparameters">What can be set.</param>
/// <param name="Warning">What a user must know before choosing it, or null.</param>
public sealed record MethodDescription(string Name, string Summary, string Source, IReadOnlyList<HyperparameterDescription> Hyperparameters, string? Warning);

/// <summary>One hyperparameter: its default as JSON, and its range or its choices.</summary>
public sealed record HyperparameterDescription(string Name, string Summary, string Default, string Range);

/// <summary>A registry line: how a method is named, described, set and made.</summary>
internal sealed record MethodDefinition(
    string Name,
    string Summary,
    string Source,
    IReadOnlyList<Hyperparameter> Own,
    Func<MethodSettings, MethodTarget, INormalizationMethod> Create,
    string? Warning = null)
{
    /// <summary>A method that needs to know nothing of the model but its sites, one at a time.</summary>
    public MethodDefinition(
        string name,
        string summary,
        string source,
        IReadOnlyList<Hyperparameter> own,
        Func<MethodSettings, INormalizationMethod> create,
        string? warning = null)
        : this(name, summary, source, own, (settings, _) => create(settings), warning)
    {
    }

    /// <summary>The method's own hyperparameters and the site filter, which every method has.</summary>
    public IReadOnlyList<Hyperparameter> Hyperparameters { get; } = [.. Own, .. SiteFilter.Hyperparameters];
}
