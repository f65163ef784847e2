using System.Text.Json;
using System.Text.Json.Serialization;

namespace TtaService.Engine.Drift;

/// <summary>What is normal for a model: how far the observed statistics of in-distribution streams are from the source's, and what the model answers there. Made by
/// <c>tta calibrate</c>, stored beside the model.</summary>
public sealed record DriftReference
{
    /// <summary>The file beside model.onnx.</summary>
    public const string FileName = "drift.json";

    private const string CurrentFormat = "tta.drift.v1";

    private static readonly JsonSerializerOptions Json = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
        WriteIndented = true,
    };

    /// <summary>The file's format.</summary>
    public string Format { get; init; } = CurrentFormat;

    /// <summary>SHA-256 of the ONNX file that was calibrated, lower-case hex.</summary>
    public required string Model { get; init; }

    /// <summary>When it was made.</summary>
    public required DateTimeOffset Created { get; init; }

    /// <summary>Frames that went into it.</summary>
    public required long Frames { get; init; }

    /// <summary>Streams that they came in.</summary>
    public required int Streams { get; init; }

    /// <summary>The window of the observed statistics, in frames.</summary>
    public required int Tau { get; init; }

    /// <summary>What is normal by the name of the method that streams run with.</summary>
    public required IReadOnlyDictionary<string, MethodReference> Methods { get; init; }

    /// <summary>What is normal for streams of a method; null when it was not calibrated. A prediction filter behind a method changes nothing of what its sites see.</summary>
    /// <param name="method">Its name, perhaps with a filter behind it.</param>
    public MethodReference? Of(string method) => Methods.GetValueOrDefault(method) ?? Methods.GetValueOrDefault(method.Split('+')[0]);

    /// <summary>Reads a reference.</summary>
    /// <exception cref="DriftReferenceException">Not readable, or not what <c>tta calibrate</c> writes; the message says what to do.</exception>
    public static DriftReference Read(string path)
    {
        try
        {
            var read = JsonSerializer.Deserialize<DriftReference>(File.ReadAllText(path), Json);
            return read is { Format: CurrentFormat } && read.Problem() is null
                ? read
                : throw new DriftReferenceException($"{path}: {read?.Problem() ?? $"its format is not {CurrentFormat}"}; make it again with tta calibrate");
        }
        catch (Exception broken) when (broken is JsonException or IOException or UnauthorizedAccessException)
        {
            throw new DriftReferenceException($"{path} can't be read ({broken.Message}); make it again with tta calibrate");
        }
    }

    /// <summary>Writes the reference.</summary>
    public void Write(string path) => File.WriteAllText(path, JsonSerializer.Serialize(this, Json) + "\n");

    private string? Problem() =>
        Methods.Count == 0 ? "it names no method"
        : Methods.Values.Any(method => !Positive(method.ScoreLimit) || !Positive(method.FeatureSpread) || method.Sites.Any(site => !Positive(site.Limit)))
            ? "a limit is not a positive number"
        : null;

    private static bool Positive(double value) => double.IsFinite(value) && value > 0;
}

/// <summary>What is normal for streams of one method.</summary>
public sealed record MethodReference
{
    /// <summary>What the largest kl / limit of the sites reaches on normal frames: a score of 1 is that.</summary>
    public required double ScoreLimit { get; init; }

    /// <summary>Mean spread of the last site's means between frames, in source deviations.</summary>
    public required double FeatureSpread { get; init; }

    /// <summary>Mean entropy of the predictions, 0 to 1; null for a model without class scores.</summary>
    public double? Entropy { get; init; }

    /// <summary>Mean predicted probability of each class; empty for a model without class scores.</summary>
    public IReadOnlyList<double> Classes { get; init; } = [];

    /// <summary>The sites, in execution order.</summary>
    public required IReadOnlyList<SiteReference> Sites { get; init; }
}

/// <summary>What is normal at one site.</summary>
/// <param name="Name">The site.</param>
/// <param name="GaussianKl">Mean of gaussian_kl over the calibration's sweeps.</param>
/// <param name="GaussianKlStd">Its deviation.</param>
/// <param name="Wasserstein">Mean of wasserstein.</param>
/// <param name="WassersteinStd">Its deviation.</param>
public sealed record SiteReference(string Name, double GaussianKl, double GaussianKlStd, double Wasserstein, double WassersteinStd)
{
    /// <summary>The edge of normal: mean + 3 deviations of gaussian_kl.</summary>
    [JsonIgnore]
    public double Limit => GaussianKl + (3 * GaussianKlStd);

    /// <summary>The same of wasserstein.</summary>
    [JsonIgnore]
    public double WassersteinLimit => Wasserstein + (3 * WassersteinStd);
}

/// <summary>A reference that can't be used; the message says why and what to do.</summary>
public sealed class DriftReferenceException(string message) : Exception(message);
