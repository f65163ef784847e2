using TtaService.Engine.Calibration;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Engine.Tests.Evaluation;

namespace TtaService.Engine.Tests.Normalization.Auto;

/// <summary>What the prototype of <c>auto</c> measured and answered on the demo model (Data/auto/export.py).</summary>
internal static class Prototype
{
    public const int Side = 28;

    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "Data", "auto");
    private static readonly Lazy<(byte[] File, Safetensors Content)> Streams = new(() => Open("streams.safetensors"));
    private static readonly Lazy<(byte[] File, Safetensors Content)> Measured = new(() => Open("calibration.safetensors"));

    public static InputNormalization Input { get; } = new([0.2860f], [0.3530f]);

    /// <summary>The demo model with the prototype's own calibration, or with none.</summary>
    public static AdaptiveModel Load(bool calibrated = true, bool onDevice = false)
    {
        using var sites = AdaptiveModel.Load(Repository.Model);
        return AdaptiveModel.Load(Repository.Model, new AdaptiveModelOptions
        {
            InputNormalization = Input,
            Calibration = calibrated ? Calibration(sites, string.Empty, 2000) : null,
            UsesTorchOperators = onDevice,
        });
    }

    /// <summary>A calibration as the prototype measured it.</summary>
    public static ModelCalibration Calibration(AdaptiveModel model, string prefix, int frames) => new()
    {
        Model = model.Digest,
        Frames = frames,
        Created = default,
        Prior = OfCalibration(prefix + "prior"),
        Entropy = new float[ModelCalibration.EntropyQuantiles],
        Sites = model.Sites.ToDictionary(site => site.Name, site => new SiteCalibration
        {
            Mean = OfCalibration($"{prefix}{site.Index}.mean"),
            MeanVariance = OfCalibration($"{prefix}{site.Index}.mean_var"),
            Variance = OfCalibration($"{prefix}{site.Index}.var"),
            VarianceVariance = OfCalibration($"{prefix}{site.Index}.var_var"),
            ClassMean = OfCalibration($"{prefix}{site.Index}.class_mean"),
            ClassVariance = OfCalibration($"{prefix}{site.Index}.class_var"),
            ClassShare = OfCalibration($"{prefix}{site.Index}.share")[0],
            ClassDistance = OfCalibration($"{prefix}{site.Index}.dcl")[0],
            FrameDistance = OfCalibration($"{prefix}{site.Index}.d95")[0],
        }),
    };

    public static float[] OfCalibration(string name) => Floats(Measured.Value, name);

    public static float[] OfStreams(string name) => Floats(Streams.Value, name);

    public static byte[] Labels(string stream) => Streams.Value.Content.Bytes(Streams.Value.File, stream + ".labels").ToArray();

    /// <summary>Frames of a stream from one on.</summary>
    public static FrameBlock Frames(string stream, int from, int count) =>
        FrameBlock.FromPixels(Streams.Value.Content.Bytes(Streams.Value.File, stream + ".frames").Slice(from * Side * Side, count * Side * Side).ToArray(), count, 1, Side, Side);

    /// <summary>Some frames of a stream.</summary>
    public static FrameBlock Frames(string stream, ReadOnlySpan<int> places)
    {
        var all = Streams.Value.Content.Bytes(Streams.Value.File, stream + ".frames");
        var pixels = new byte[places.Length * Side * Side];
        for (var i = 0; i < places.Length; i++)
        {
            all.Slice(places[i] * Side * Side, Side * Side).CopyTo(pixels.AsSpan(i * Side * Side));
        }

        return FrameBlock.FromPixels(pixels, places.Length, 1, Side, Side);
    }

    /// <summary>The pixels of one frame of a stream.</summary>
    public static byte[] Pixels(string stream, int frame) => Streams.Value.Content.Bytes(Streams.Value.File, stream + ".frames").Slice(frame * Side * Side, Side * Side).ToArray();

    private static (byte[], Safetensors) Open(string name)
    {
        var file = File.ReadAllBytes(Path.Combine(Folder, name));
        return (file, Safetensors.Read(file));
    }

    private static float[] Floats((byte[] File, Safetensors Content) from, string name)
    {
        var values = new float[from.Content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        from.Content.CopyTo(from.File, name, values);
        return values;
    }
}
