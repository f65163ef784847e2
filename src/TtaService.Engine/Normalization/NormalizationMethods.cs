namespace TtaService.Engine.Normalization;

/// <summary>The methods that exist.</summary>
public static class NormalizationMethods
{
    /// <summary>Every method, with what a user needs to choose it.</summary>
    public static IReadOnlyList<MethodDescription> All => throw new NotImplementedException();
}

/// <summary>What a method is and what can be set.</summary>
public sealed record MethodDescription(string Name, string Summary, string Source, IReadOnlyList<HyperparameterDescription> Hyperparameters);

/// <summary>One hyperparameter: its default, and its range or its choices.</summary>
public sealed record HyperparameterDescription(string Name, string Summary, string Default, string Range);
