using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Normalization;

/// <summary>A method with all its hyperparameters, validated. Immutable; equal when the method, of one definition, and the values are.</summary>
public sealed class MethodSettings : IEquatable<MethodSettings>
{
    // Who sends a hundred wrong names is helped by the first few.
    private const int NamedProblems = 3;

    private readonly JsonObject _values;
    private readonly string _key;

    private MethodSettings(MethodDefinition definition, JsonObject values)
    {
        Definition = definition;
        _values = values;
        _key = definition.Name + values.ToJsonString();
    }

    /// <summary>The method's name: <c>source</c>, <c>unmix_tns</c>, …</summary>
    public string Name => Definition.Name;

    /// <summary>The name of what normalizes: <see cref="Name"/>, without a prediction filter behind it.</summary>
    public string NormalizationName => Definition.NormalizationName;

    /// <summary>The prediction filter behind the method; null for none, or where it is switched off.</summary>
    internal FilterDefinition? Filter =>
        Definition.Filter is { } filter && (!_values.ContainsKey(FilterDefinition.Switch) || Text(FilterDefinition.Switch) == "on") ? filter : null;

    /// <summary>What makes the method.</summary>
    internal MethodDefinition Definition { get; }

    /// <summary>Every hyperparameter with its value, defaults included, as JSON with snake_case names. A copy.</summary>
    public JsonObject Hyperparameters => (JsonObject)_values.DeepClone();

    /// <summary>Checks and completes the hyperparameters of a method.</summary>
    /// <param name="name">A name of the registry, or an expression of its parts: <c>unmix_tns+lame</c>.</param>
    /// <param name="hyperparameters">Those that differ from the defaults. Numbers and strings.</param>
    /// <param name="methods">Where the name is looked up; the engine's own methods when null.</param>
    /// <exception cref="MethodSettingsException">Unknown method or hyperparameter, wrong type, or out of range: the message names it, its range and the value seen.</exception>
    public static MethodSettings Create(string name, JsonObject? hyperparameters = null, MethodRegistry? methods = null)
    {
        methods ??= MethodRegistry.BuiltIn;
        var method = methods.Require(name);
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

        return problems.Count == 0 ? new MethodSettings(method, values) : throw new MethodSettingsException(string.Join("; ", problems));
    }

    /// <inheritdoc/>
    public bool Equals(MethodSettings? other) => other is not null && _key == other._key && ReferenceEquals(Definition, other.Definition);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as MethodSettings);

    /// <inheritdoc/>
    public override int GetHashCode() => _key.GetHashCode(StringComparison.Ordinal);

    /// <summary>The name, and the hyperparameters as JSON.</summary>
    public override string ToString() => _key;

    /// <summary>A hyperparameter that <see cref="Hyperparameter.Number"/> declared.</summary>
    /// <exception cref="ArgumentException">The method has no number of this name.</exception>
    public float Number(string name) => Value(name) is { } value && value.GetValueKind() == JsonValueKind.Number
        ? (float)double.Parse(value.ToJsonString(), CultureInfo.InvariantCulture)
        : throw Undeclared(name, "number");

    /// <summary>A hyperparameter that <see cref="Hyperparameter.Integer"/> declared.</summary>
    /// <exception cref="ArgumentException">The method has no whole number of this name.</exception>
    public int Integer(string name) => Value(name) is JsonValue value && value.TryGetValue<long>(out var number) ? checked((int)number) : throw Undeclared(name, "whole number");

    /// <summary>A hyperparameter that <see cref="Hyperparameter.Choice"/> or <see cref="Hyperparameter.Text"/> declared.</summary>
    /// <exception cref="ArgumentException">The method has no text of this name.</exception>
    public string Text(string name) => Value(name) is JsonValue value && value.TryGetValue<string>(out var text) ? text : throw Undeclared(name, "text");

    private JsonNode? Value(string name) => _values.TryGetPropertyValue(name, out var value) ? value : null;

    private ArgumentException Undeclared(string hyperparameter, string kind) =>
        new($"method {Name} declares no {kind} '{hyperparameter}'; it declares {string.Join(", ", _values.Select(pair => pair.Key))}");
}

/// <summary>Settings that no method accepts.</summary>
public sealed class MethodSettingsException(string message) : Exception(message);
