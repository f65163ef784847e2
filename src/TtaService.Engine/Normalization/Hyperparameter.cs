using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace TtaService.Engine.Normalization;

/// <summary>One hyperparameter of a method: name, default, and what values it takes.</summary>
internal abstract record Hyperparameter(string Name, string Summary)
{
    public abstract JsonNode Default { get; }

    public abstract string Range { get; }

    /// <summary>The value in canonical form, or null with the reason in <paramref name="problem"/>.</summary>
    public abstract JsonNode? Parse(JsonNode? value, out string? problem);

    public static Hyperparameter Number(string name, double @default, double minimum, double maximum, string summary) =>
        new NumberHyperparameter(name, summary, @default, minimum, maximum, Whole: false);

    public static Hyperparameter Integer(string name, int @default, int minimum, int maximum, string summary) =>
        new NumberHyperparameter(name, summary, @default, minimum, maximum, Whole: true);

    public static Hyperparameter Choice(string name, string summary, params string[] choices) =>
        new ChoiceHyperparameter(name, summary, choices);

    public static Hyperparameter Text(string name, string @default, string summary) =>
        new TextHyperparameter(name, summary, @default);

    public HyperparameterDescription Describe() => new(Name, Summary, Default.ToJsonString(), Range);

    private sealed record NumberHyperparameter(string Name, string Summary, double DefaultValue, double Minimum, double Maximum, bool Whole)
        : Hyperparameter(Name, Summary)
    {
        public override JsonNode Default => Node(DefaultValue);

        public override string Range => string.Create(CultureInfo.InvariantCulture, $"{(Whole ? "whole number" : "number")} from {Minimum} to {Maximum}");

        public override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var number = double.NaN;
            if (value is JsonValue json && json.GetValueKind() == JsonValueKind.Number)
            {
                number = double.Parse(json.ToJsonString(), CultureInfo.InvariantCulture);
            }

            problem = number >= Minimum && number <= Maximum && (!Whole || number == Math.Floor(number)) ? null : $"must be a {Range}";
            return problem is null ? Node(number) : null;
        }

        private JsonValue Node(double value) => Whole ? JsonValue.Create((long)value) : JsonValue.Create(value);
    }

    private sealed record ChoiceHyperparameter(string Name, string Summary, string[] Choices) : Hyperparameter(Name, Summary)
    {
        public override JsonNode Default => JsonValue.Create(Choices[0]);

        public override string Range => $"one of {string.Join(", ", Choices)}";

        public override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var choice = value is JsonValue json && json.GetValueKind() == JsonValueKind.String ? json.GetValue<string>() : null;
            problem = Choices.Contains(choice) ? null : $"must be {Range}";
            return problem is null ? JsonValue.Create(choice) : null;
        }
    }

    private sealed record TextHyperparameter(string Name, string Summary, string DefaultValue) : Hyperparameter(Name, Summary)
    {
        private const int MaxLength = 512;

        public override JsonNode Default => JsonValue.Create(DefaultValue);

        public override string Range => $"text of 1 to {MaxLength} characters";

        public override JsonNode? Parse(JsonNode? value, out string? problem)
        {
            var text = value is JsonValue json && json.GetValueKind() == JsonValueKind.String ? json.GetValue<string>() : null;
            problem = text is { Length: > 0 and <= MaxLength } ? null : $"must be {Range}";
            return problem is null ? JsonValue.Create(text) : null;
        }
    }
}
