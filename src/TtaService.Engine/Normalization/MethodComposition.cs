using System.Collections.Concurrent;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Normalization;

/// <summary>Reads method expressions, <c>METHOD</c> or <c>METHOD+FILTER</c>, and makes one method of their parts. Thread-safe.</summary>
/// <param name="methods">Normalization methods by name.</param>
/// <param name="filters">Prediction filters.</param>
internal sealed class MethodComposition(IReadOnlyDictionary<string, MethodDefinition> methods, IReadOnlyList<FilterDefinition> filters)
{
    private const char Joint = '+';

    // As many as fit together: bounded by the parts that there are.
    private readonly ConcurrentDictionary<string, MethodDefinition> _composed = new(StringComparer.Ordinal);

    /// <summary>The method, the same instance each time; null, with what is wrong, for an expression that makes none.</summary>
    public MethodDefinition? Find(string expression, out string? problem)
    {
        problem = null;
        if (methods.TryGetValue(expression, out var method) || _composed.TryGetValue(expression, out method))
        {
            return method;
        }

        problem = expression.Split(Joint) is [_, _, ..] parts ? WhyNot(parts) : FilterOf(expression) is null ? Unknown() : Leads(expression);
        if (problem is not null)
        {
            problem = $"method '{ForeignText.Clip(expression)}' {problem}";
            return null;
        }

        var names = expression.Split(Joint);
        var (first, filter) = (methods[names[0]], FilterOf(names[1])!);
        return _composed.GetOrAdd(expression, _ => first with
        {
            Name = expression,
            Summary = $"{first.Summary.TrimEnd('.')}; then {filter.Name}: {filter.Summary}",
            Source = $"{first.Source}; {filter.Source}",
            Warning = Joined(first.Warning, filter.Warning),
            Filter = filter,
            NormalizationName = first.Name,
        });
    }

    private string? WhyNot(string[] parts)
    {
        if (Array.Find(parts, part => !methods.ContainsKey(part) && FilterOf(part) is null) is { } unknown)
        {
            return $"has a part '{ForeignText.Clip(unknown)}', which does not exist; {Fitting()}";
        }

        if (FilterOf(parts[0]) is not null)
        {
            return Leads(parts[0]);
        }

        string[] normalizing = [.. parts.Where(methods.ContainsKey)];
        if (normalizing.Length > 1)
        {
            return $"has two normalization methods, {normalizing[0]} and {normalizing[1]}; keep one: {Fitting()}";
        }

        return parts.Length > 2
            ? $"has more than one prediction filter, {parts[1]} and {parts[2]}; keep one: {Fitting()}"
            : methods[parts[0]].RefusesFilter(parts[1]);
    }

    private string Unknown() =>
        $"does not exist; the methods are {Names}, each perhaps with a prediction filter behind it (+{string.Join(" or +", filters.Select(filter => filter.Name))})";

    private static string Leads(string filter) => $"begins with {filter}, a prediction filter, which needs a normalization method in front of it: source+{filter}, tbr+{filter}, …";

    private string Fitting() => $"one of {Names}, and perhaps one prediction filter behind it, {string.Join(" or ", filters.Select(filter => filter.Name))} (unmix_tns+lame)";

    private string Names => string.Join(", ", methods.Keys);

    private FilterDefinition? FilterOf(string name) => filters.FirstOrDefault(filter => filter.Name == name);

    private static string? Joined(string? one, string? other) => one is null ? other : other is null ? one : $"{one} {other}";
}
