using System.Text.Json.Nodes;
using TtaService.Engine.Answers;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;

namespace TtaService.Serving.Front;

/// <summary>A normalization site.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Kind">What of the graph it is.</param>
/// <param name="Channels">Channels C.</param>
public sealed record SiteDescription(string Name, SiteKind Kind, int Channels);

/// <summary>A method on a model.</summary>
/// <param name="Method">The method.</param>
/// <param name="WhyUnavailable">Why the model can't run it; null when it can.</param>
/// <param name="StateBytes">Of a stream with its default settings; 0 when it is not available.</param>
public sealed record MethodOnModel(MethodDescription Method, string? WhyUnavailable, long StateBytes);

/// <summary>A model that is served.</summary>
public sealed record ModelDescription
{
    /// <summary>Of its folder.</summary>
    public required string Name { get; init; }

    /// <summary>The number of its folder in the model's; 1 for a model without versions.</summary>
    public required long Version { get; init; }

    /// <summary>SHA-256 of the ONNX file, lower-case hex.</summary>
    public required string Digest { get; init; }

    /// <summary>For streams that name no method.</summary>
    public required MethodSettings DefaultMethod { get; init; }

    /// <summary>As in <c>model.json</c>.</summary>
    public required JsonObject Preprocessing { get; init; }

    /// <summary>The graph's name of its input.</summary>
    public required string InputName { get; init; }

    /// <summary>What the input's elements are: <c>float32</c>, …</summary>
    public required string InputType { get; init; }

    /// <summary>-1 for what may differ.</summary>
    public required IReadOnlyList<long> InputShape { get; init; }

    /// <summary>What it gives, and what that is.</summary>
    public required IReadOnlyList<ModelOutput> Outputs { get; init; }

    /// <summary>The output that predictions are read from; null when there is none.</summary>
    public required ModelOutput? Scores { get; init; }

    /// <summary>What it answers, and from which outputs.</summary>
    public required ModelAnswer Answer { get; init; }

    /// <summary>Class names by index; empty when the model has none.</summary>
    public required IReadOnlyList<string> Labels { get; init; }

    /// <summary>In execution order.</summary>
    public required IReadOnlyList<SiteDescription> Sites { get; init; }

    /// <summary>Frames that a step may have.</summary>
    public required int MaxFramesPerStep { get; init; }
}

/// <summary>The models that are served and what their streams can ask for, for whatever protocol. What is refused is a value. Thread-safe.</summary>
public interface IServedModels
{
    /// <summary>By name.</summary>
    IReadOnlyList<ModelDescription> All { get; }

    /// <summary>What the repository holds and is not served; of a model that goes on as it was before its files changed, what is wrong with the new ones.</summary>
    IReadOnlyList<BrokenModel> Broken { get; }

    /// <summary>Rises with every change of what is served.</summary>
    int Changes { get; }

    /// <summary>The model of this name; the empty name is the only model's.</summary>
    Outcome<ModelDescription> Find(string name);

    /// <summary>Every method, as it is on a model.</summary>
    Outcome<IReadOnlyList<MethodOnModel>> Methods(string model);

    /// <summary>Prediction filters that an expression may put behind a method, on a model; the bytes are what they add.</summary>
    Outcome<IReadOnlyList<MethodOnModel>> Filters(string model);

    /// <summary>Loads a model as its folder is now, anew or for the first time.</summary>
    /// <remarks>It takes over when it is warmed up; one that can't be served leaves the one before serving.</remarks>
    Task<Outcome<ModelDescription>> LoadAsync(string name);

    /// <summary>Serves a model no more: the calls that have its streams open end, what they learned is saved.</summary>
    /// <returns>Its name.</returns>
    Task<Outcome<string>> UnloadAsync(string name);
}
