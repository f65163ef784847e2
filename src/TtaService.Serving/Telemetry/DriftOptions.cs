using System.ComponentModel.DataAnnotations;
using TtaService.Engine.Drift;

namespace TtaService.Serving.Telemetry;

/// <summary>What is observed of each stream.</summary>
public enum DriftSites
{
    /// <summary>Every normalization site: 2 floats a channel and stream.</summary>
    Full,

    /// <summary>Nothing: no drift, no levels; <c>source</c> runs folded throughout.</summary>
    Off,
}

/// <summary>How drift is watched, section <c>Drift</c>.</summary>
public sealed class DriftOptions
{
    /// <summary>full or off. Default full.</summary>
    public DriftSites Sites { get; set; } = DriftSites.Full;

    /// <summary>Time between two sweeps over all streams. Default 10 s: a level is entered after three.</summary>
    [Range(typeof(TimeSpan), "00:00:00.100", "01:00:00")]
    public TimeSpan Interval { get; set; } = TimeSpan.FromSeconds(10);

    /// <summary>Window of the observed statistics and of the predictions, in frames. Default 128; a reference holds for the window that it was made with.</summary>
    [Range(16, 65_536)]
    public int Tau { get; set; } = 128;

    /// <summary>Of a source stream, one step in so many is observed after the warm-up. Default 4: its unfolded graph costs more (Benchmarks).</summary>
    [Range(1, 1024)]
    public int SourceInterval { get; set; } = 4;

    /// <summary>Share of the frames of adapted streams that also run through source. Default 0.01; 0 for none.</summary>
    [Range(0.0, 1.0)]
    public double ShadowShare { get; set; } = 0.01;

    /// <summary>How the engine observes; null when it does not.</summary>
    internal ObservationOptions? Observation => Sites == DriftSites.Full ? new ObservationOptions { Tau = Tau, SourceInterval = SourceInterval } : null;

    /// <summary>Frames from one that also runs through source to the next; 0 for none.</summary>
    internal int ShadowInterval => Sites == DriftSites.Off || ShadowShare <= 0 ? 0 : (int)Math.Max(1, Math.Round(1 / ShadowShare));
}
