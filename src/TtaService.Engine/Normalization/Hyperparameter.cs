using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace TtaService.Engine.Normalization;

/// <summary>One hyperparameter of a method: name, default, and what values it takes.</summary>
public abstract class Hyperparameter
{
    private protected Hyperparameter(string name, string summary) => (Name, Summary) = (name, summary);

    /// <summary>In snake case.</summary>
    public string Name { get; }

    /// <summary>One sentence.</summary>
    public string Summary { get; }

    /// <summary>The value where none is given.</summary>
    internal abstract JsonNode Default { get; }

    /// <summary>What it takes, in words.</summary>
    internal abstract string Range { get; }

    /// <summary>The value in canonical form, or null with the reason in <paramref name="problem"/>.</summary>
    internal abstract JsonNode? Parse(JsonNode? value, out string? problem);

    /// <summary>A number, read by <see cref="MethodSettings.Number"/>.</summary>
    /// <param name="name">In snake case.</param>
    /// <param name="default">The value where none is given.</param>
    /// <param name="minimum">The least, itself included.</param>
    /// <param name="maximum">The largest, itself included.</param>
    /// <param name="summary">One sentence.</param>
    public static Hyperparameter Number(string name, double @default, double minimum, double maximum, string summary) =>
        new NumberHyperparameter(name, summary, @default, minimum, maximum, whole: false);

    /// <summary>A whole number, read by <see cref="MethodSettings.Integer"/>.</summary>
    /// <param name="name">In snake case.</param>
    /// <param name="default">The value where none is given.</param>
    /// <param name="minimum">The least, itself included.</param>
    /// <param name="maximum">The largest, itself included.</param>
    /// <param name="summary">One sentence.</param>
    public static Hyperparameter Integer(string name, int @default, int minimum, int maximum, string summary) =>
        new NumberHyperparameter(name, summary, @default, minimum, maximum, whole: true);

    /// <summary>One of some words, the first by default; read by <see cref="MethodSettings.Text"/>.</summary>
    /// <param name="name">In snake case.</param>
    /// <param name="summary">One sentence.</param>
    /// <param name="choices">The words, one or more.</param>
    public static Hyperparameter Choice(string name, string summary, params string[] choices) =>
        choices.Length > 0
            ? new ChoiceHyperparameter(name, summary, [.. choices])
            : throw new ArgumentException($"hyperparameter '{name}' has no choices; give one or more", nameof(choices));

    /// <summary>Text of up to 512 characters, read by <see cref="MethodSettings.Text"/>.</summary>
    /// <param name="name">In snake case.</param>
    /// <param name="default">The value where none is given.</param>
    /// <param name="summary">One sentence.</param>
    public static Hyperparameter Text(string name, string @default, string summary) =>
        new TextHyperparameter(name, summary, @default);

    internal HyperparameterDescription Describe() => new(Name, Summary, Default.ToJsonString(), Range);

    private sealed class NumberHyperparameter(string name, string summary, double defaultValue, double minimum, double maximum, bool whole) : Hyperparameter(name, summary)
    {
        internal override JsonNode Default => Node(defaultValue);

        internal override string Range => string.Create(CultureInfo.InvariantCulture, $"{(whole ? "whole number" : "number")} from {minimum} to {maximum}");

        internal override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var number = double.NaN;
            if (value is JsonValue json && json.GetValueKind() == JsonValueKind.Number)
            {
                number = double.Parse(json.ToJsonString(), CultureInfo.InvariantCulture);
            }

            problem = number >= minimum && number <= maximum && (!whole || number == Math.Floor(number)) ? null : $"must be a {Range}";
            return problem is null ? Node(number) : null;
        }

        private JsonValue Node(double value) => whole ? JsonValue.Create((long)value) : JsonValue.Create(value);
    }

    private sealed class ChoiceHyperparameter(string name, string summary, string[] choices) : Hyperparameter(name, summary)
    {
        internal override JsonNode Default => JsonValue.Create(choices[0]);

        internal override string Range => $"one of {string.Join(", ", choices)}";

        internal override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var choice = value is JsonValue json && json.GetValueKind() == JsonValueKind.String ? json.GetValue<string>() : null;
            problem = choices.Contains(choice) ? null : $"must be {Range}";
            return problem is null ? JsonValue.Create(choice) : null;
        }
    }

    private sealed class TextHyperparameter(string name, string summary, string defaultValue) : Hyperparameter(name, summary)
    {
        private const int MaxLength = 512;

        internal override JsonNode Default => JsonValue.Create(defaultValue);

        internal override string Range => $"text of 1 to {MaxLength} characters";

        internal override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var text = value is JsonValue json && json.GetValueKind() == JsonValueKind.String ? json.GetValue<string>() : null;
            problem = text is { Length: > 0 and <= MaxLength } ? null : $"must be {Range}";
            return problem is null ? JsonValue.Create(text) : null;
        }
    }
}
