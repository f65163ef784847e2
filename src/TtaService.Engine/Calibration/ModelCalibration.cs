using TtaService.Engine.Normalization;

namespace TtaService.Engine.Calibration;

/// <summary>Calibration of a model: source statistics and what else is normal for it, measured from unlabelled frames by <see cref="Calibrator"/> and kept beside it.
/// Immutable.</summary>
public sealed record ModelCalibration
{
    /// <summary>The file beside model.onnx.</summary>
    public const string FileName = "calibration.safetensors";

    /// <summary>Above so many classes the moments by class are left out: they would take 2 Q C floats a site, and few frames show each class.</summary>
    public const int MaxClassMoments = 64;

    /// <summary>Points of <see cref="Entropy"/>: every hundredth.</summary>
    public const int EntropyQuantiles = 101;

    /// <summary>SHA-256 of the ONNX file that was calibrated, lower-case hex.</summary>
    public required string Model { get; init; }

    /// <summary>Frames that went into it.</summary>
    public required long Frames { get; init; }

    /// <summary>When it was made.</summary>
    public required DateTimeOffset Created { get; init; }

    /// <summary>Mean predicted probability of each class, [Q]; empty for a model that answers no classes.</summary>
    public required float[] Prior { get; init; }

    /// <summary>Quantiles 0, 0.01, …, 1 of the predictions' entropy over that of no idea at all, 0 to 1; empty without classes.</summary>
    public required float[] Entropy { get; init; }

    /// <summary>By site name, virtual sites among them; a site that shows one value a channel (behind the pooling) has none.</summary>
    public required IReadOnlyDictionary<string, SiteCalibration> Sites { get; init; }

    /// <summary>Classes Q, 0 for a model that answers none.</summary>
    public int Classes => Prior.Length;

    /// <summary>Reads and checks a file.</summary>
    /// <exception cref="CalibrationException">Not readable, cut short, edited, or not what a calibration is; the message says which.</exception>
    public static ModelCalibration Read(string path) => CalibrationFile.Read(path);

    /// <summary>Writes the file whole or not at all: what was there before stays until the new one is complete.</summary>
    public void Write(string path) => CalibrationFile.Write(path, this);

    /// <summary>A virtual site with what was measured there; null where nothing was.</summary>
    internal NormalizationSite? Place(NormalizationSite place)
    {
        if (!Sites.TryGetValue(place.Name, out var site) || site.Mean.Length != place.Channels)
        {
            return null;
        }

        float[] variance = [.. site.Variance.Zip(site.MeanVariance, (within, between) => within + between)];
        return NormalizationSite.Virtual(place.Index, place.Name, site.Mean, variance, place.Origin) with { ChannelsLast = place.ChannelsLast, IsFeature = place.IsFeature };
    }

    /// <summary>Null when the calibration is of this model, else why not.</summary>
    internal string? WhyUnfit(string modelDigest, IReadOnlyList<NormalizationSite> sites)
    {
        if (Model != modelDigest)
        {
            return $"the calibration belongs to model {Model}, this model is {modelDigest}; calibrate this one with tta calibrate";
        }

        var byName = sites.ToDictionary(site => site.Name, StringComparer.Ordinal);
        foreach (var (name, site) in Sites)
        {
            if (!byName.TryGetValue(name, out var own) || own.Channels != site.Mean.Length)
            {
                return $"the calibration's site '{name}' with {site.Mean.Length} channels is none of the model's; calibrate again with tta calibrate";
            }
        }

        return null;
    }
}
