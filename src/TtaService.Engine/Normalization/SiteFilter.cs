using System.IO.Enumeration;

namespace TtaService.Engine.Normalization;

/// <summary>Which sites a method adapts; the others stay at source statistics.</summary>
internal sealed class SiteFilter(MethodSettings settings)
{
    private readonly int _first = settings.Integer("sites_first");
    private readonly string[] _patterns = settings.Text("sites_pattern").Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);

    public static IReadOnlyList<Hyperparameter> Hyperparameters { get; } =
    [
        Hyperparameter.Integer("sites_first", 0, 0, 100_000, "Adapt only the first so many sites; 0 means all."),
        Hyperparameter.Text("sites_pattern", "*", "Adapt only the sites whose name matches one of these comma-separated patterns (* and ?)."),
    ];

    public bool Selects(NormalizationSite site) =>
        (_first == 0 || site.Index < _first)
        && Array.Exists(_patterns, pattern => FileSystemName.MatchesSimpleExpression(pattern, site.Name, ignoreCase: false));
}
