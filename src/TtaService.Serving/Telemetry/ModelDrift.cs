using System.Globalization;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;

namespace TtaService.Serving.Telemetry;

/// <summary>How drift is read on one model: its monitor, and what is normal for it.</summary>
internal sealed class ModelDrift
{
    private readonly DriftOptions _options;
    private readonly OutputKind _scores;

    private ModelDrift(DriftOptions options, AdaptiveModel model, DriftMonitor? monitor, string calibration)
    {
        _options = options;
        // Shares of boxes or pixels are probabilities of classes, too.
        _scores = model.Scores?.Kind ?? OutputKind.Probabilities;
        Monitor = monitor;
        Calibration = calibration;
    }

    /// <summary>Whether answers and frames are followed.</summary>
    public bool Watches => _options.Sites != DriftSites.Off;

    /// <summary>Null when nothing is observed: switched off, or the model has no normalization sites.</summary>
    public DriftMonitor? Monitor { get; }

    /// <summary>For people: since when and on how many frames the model was calibrated, or why it is not.</summary>
    public string Calibration { get; }

    /// <summary>Follows the answers and frames of a new stream. One of <c>source</c> has no shadow: it would compare with itself.</summary>
    public StreamHealth NewHealth(MethodSettings method) => new(_options.Tau, method.Name == "source" ? 0 : _options.ShadowInterval, _scores);

    public static ModelDrift Open(ModelFolder folder, AdaptiveModel model, DriftOptions options)
    {
        if (model.Observation is null)
        {
            return new ModelDrift(options, model, null, model.Sites.Count == 0 ? "not watched: the model has no normalization sites" : "not watched (Drift:Sites is off)");
        }

        var path = Path.Combine(folder.FolderPath, DriftReference.FileName);
        if (!ModelFile.Exists(path))
        {
            return new ModelDrift(options, model, new DriftMonitor(model, null), "uncalibrated: run tta calibrate");
        }

        try
        {
            var monitor = new DriftMonitor(model, DriftReference.Read(path));
            var reference = monitor.Reference!;
            return new ModelDrift(
                options,
                model,
                monitor,
                string.Create(CultureInfo.InvariantCulture, $"calibrated {reference.Created:yyyy-MM-dd} on {reference.Frames:N0} frames"));
        }
        catch (DriftReferenceException unfit)
        {
            // Serving matters more than judging.
            return new ModelDrift(options, model, new DriftMonitor(model, null), $"uncalibrated: {unfit.Message}");
        }
    }
}
