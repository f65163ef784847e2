using System.Text.Json.Nodes;

namespace TtaService.Engine.Normalization;

/// <summary>A method with all its hyperparameters, validated. Immutable; equal when name and values are.</summary>
public sealed class MethodSettings
{
    /// <summary>The method's name: <c>source</c>, <c>unmix_tns</c>, …</summary>
    public string Name => throw new NotImplementedException();

    /// <summary>Every hyperparameter with its value, defaults included, as JSON with snake_case names. A copy.</summary>
    public JsonObject Hyperparameters => throw new NotImplementedException();

    /// <summary>Checks and completes the hyperparameters of a method.</summary>
    /// <param name="name">A name of <see cref="NormalizationMethods"/>.</param>
    /// <param name="hyperparameters">Those that differ from the defaults. Numbers, strings and booleans.</param>
    /// <exception cref="MethodSettingsException">Unknown method or hyperparameter, wrong type, or out of range: the message names it, its range and the value seen.</exception>
    public static MethodSettings Create(string name, JsonObject? hyperparameters = null) => throw new NotImplementedException();
}

/// <summary>Settings that no method accepts.</summary>
public sealed class MethodSettingsException(string message) : Exception(message);
