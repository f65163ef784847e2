using System.Text.Json;
using System.Text.Json.Nodes;

namespace TtaService.Engine.Normalization;

/// <summary>A method with all its hyperparameters, validated. Immutable; equal when name and values are.</summary>
public sealed class MethodSettings : IEquatable<MethodSettings>
{
    // Who sends a hundred wrong names is helped by the first few.
    private const int NamedProblems = 3;

    private readonly JsonObject _values;
    private readonly string _key;

    private MethodSettings(string name, JsonObject values)
    {
        Name = name;
        _values = values;
        _key = name + values.ToJsonString();
    }

    /// <summary>The method's name: <c>source</c>, <c>unmix_tns</c>, …</summary>
    public string Name { get; }

    /// <summary>Every hyperparameter with its value, defaults included, as JSON with snake_case names. A copy.</summary>
    public JsonObject Hyperparameters => (JsonObject)_values.DeepClone();

    /// <summary>Checks and completes the hyperparameters of a method.</summary>
    /// <param name="name">A name of <see cref="NormalizationMethods"/>.</param>
    /// <param name="hyperparameters">Those that differ from the defaults. Numbers and strings.</param>
    /// <exception cref="MethodSettingsException">Unknown method or hyperparameter, wrong type, or out of range: the message names it, its range and the value seen.</exception>
    public static MethodSettings Create(string name, JsonObject? hyperparameters = null)
    {
        var method = NormalizationMethods.Find(name)
            ?? throw new MethodSettingsException($"method '{ForeignText.Clip(name)}' does not exist; the methods are {string.Join(", ", NormalizationMethods.Names)}");
        var problems = new List<string>();
        var known = method.Hyperparameters.ToDictionary(h => h.Name, StringComparer.Ordinal);
        string[] unknown = [.. (hyperparameters ?? []).Select(pair => pair.Key).Where(given => !known.ContainsKey(given))];
        if (unknown.Length > 0)
        {
            var (named, more) = (unknown.Take(NamedProblems).Select(given => $"'{ForeignText.Clip(given)}'"), unknown.Length - NamedProblems);
            problems.Add($"{string.Join(", ", named)}{(more > 0 ? $" and {more} more are" : unknown.Length > 1 ? " are" : " is")} not a hyperparameter of {name}; it has "
                + $"{string.Join(", ", known.Keys)}");
        }

        var values = new JsonObject();
        foreach (var hyperparameter in method.Hyperparameters)
        {
            JsonNode? given = null;
            if (hyperparameters is null || !hyperparameters.TryGetPropertyValue(hyperparameter.Name, out given))
            {
                values[hyperparameter.Name] = hyperparameter.Default;
                continue;
            }

            values[hyperparameter.Name] = hyperparameter.Parse(given, out var problem);
            if (problem is not null)
            {
                problems.Add($"{name}: {hyperparameter.Name} {problem}, not {ForeignText.Clip(given?.ToJsonString() ?? "null")}");
            }
        }

        return problems.Count == 0 ? new MethodSettings(name, values) : throw new MethodSettingsException(string.Join("; ", problems));
    }

    /// <inheritdoc/>
    public bool Equals(MethodSettings? other) => other is not null && _key == other._key;

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as MethodSettings);

    /// <inheritdoc/>
    public override int GetHashCode() => _key.GetHashCode(StringComparison.Ordinal);

    /// <summary>The name, and the hyperparameters as JSON.</summary>
    public override string ToString() => _key;

    internal float Number(string name) => (float)double.Parse(_values[name]!.ToJsonString(), System.Globalization.CultureInfo.InvariantCulture);

    internal int Integer(string name) => checked((int)_values[name]!.GetValue<long>());

    internal string Text(string name) => _values[name]!.GetValue<string>();
}

/// <summary>Settings that no method accepts.</summary>
public sealed class MethodSettingsException(string message) : Exception(message);
