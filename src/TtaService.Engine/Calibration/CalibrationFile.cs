using System.Globalization;
using System.Numerics.Tensors;
using System.Security.Cryptography;
using System.Text;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Calibration;

/// <summary>A calibration as a safetensors file, format <c>tta.calibration.v1</c>: <c>&lt;site&gt;.&lt;name&gt;</c> and <c>stream.&lt;name&gt;</c> tensors, and a
/// checksum over the whole file.</summary>
internal static class CalibrationFile
{
    private const string Format = "tta.calibration.v1";
    private const string ChecksumKey = "sha256";
    private const string Prior = "stream.prior";
    private const string Entropy = "stream.entropy";
    private const string MeanSuffix = ".mean";
    private const string Remedy = "make it again with tta calibrate";

    // Stands where the checksum will be while it is computed: the checksum covers all other bytes.
    private static readonly string NoChecksum = new('0', 2 * SHA256.HashSizeInBytes);

    public static ModelCalibration Read(string path)
    {
        byte[] file;
        try
        {
            file = File.ReadAllBytes(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new CalibrationException($"{path} can't be read: {e.Message}", e);
        }

        try
        {
            return Parse(file);
        }
        catch (Exception e) when (e is SnapshotException or FormatException or OverflowException)
        {
            throw new CalibrationException($"{path}: {e.Message}; {Remedy}", e);
        }
    }

    public static void Write(string path, ModelCalibration calibration)
    {
        var full = Path.GetFullPath(path);
        var temporary = full + ".tmp";
        using (var file = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None))
        {
            file.Write(Bytes(calibration));
            file.Flush(flushToDisk: true);
        }

        File.Move(temporary, full, overwrite: true);
    }

    internal static byte[] Bytes(ModelCalibration calibration)
    {
        var tensors = new List<(string, int[], float[])>();
        if (calibration.Classes > 0)
        {
            tensors.Add((Prior, [calibration.Classes], calibration.Prior));
            tensors.Add((Entropy, [ModelCalibration.EntropyQuantiles], calibration.Entropy));
        }

        foreach (var (name, site) in calibration.Sites)
        {
            int[] channels = [site.Mean.Length];
            tensors.Add((name + MeanSuffix, channels, site.Mean));
            tensors.Add((name + ".mean_var", channels, site.MeanVariance));
            tensors.Add((name + ".var", channels, site.Variance));
            tensors.Add((name + ".var_var", channels, site.VarianceVariance));
            if (site.ClassMean.Length > 0)
            {
                int[] shape = [calibration.Classes, site.Mean.Length];
                tensors.Add((name + ".class_mean", shape, site.ClassMean));
                tensors.Add((name + ".class_var", shape, site.ClassVariance));
            }

            tensors.Add((name + ".class_share", [1], [site.ClassShare]));
            tensors.Add((name + ".class_distance", [1], [site.ClassDistance]));
            tensors.Add((name + ".frame_distance", [1], [site.FrameDistance]));
        }

        var metadata = new Dictionary<string, string>
        {
            ["format"] = Format,
            ["model"] = calibration.Model,
            ["frames"] = calibration.Frames.ToString(CultureInfo.InvariantCulture),
            ["created"] = calibration.Created.ToString("O", CultureInfo.InvariantCulture),
            [ChecksumKey] = NoChecksum,
        };
        var file = Safetensors.Write(metadata, tensors);
        Encoding.ASCII.GetBytes(Checksum(file)).CopyTo(file, file.AsSpan().IndexOf(Encoding.ASCII.GetBytes(NoChecksum)));
        return file;
    }

    private static string Checksum(ReadOnlySpan<byte> file) => Convert.ToHexStringLower(SHA256.HashData(file));

    private static ModelCalibration Parse(byte[] file)
    {
        var content = Safetensors.Read(file);
        var format = Metadata("format");
        if (format != Format)
        {
            throw new FormatException($"its format is '{format}', this version reads '{Format}'");
        }

        var checksum = Metadata(ChecksumKey);
        var at = checksum.Length == NoChecksum.Length ? file.AsSpan().IndexOf(Encoding.ASCII.GetBytes(checksum)) : -1;
        if (at >= 0)
        {
            Encoding.ASCII.GetBytes(NoChecksum).CopyTo(file, at);
        }

        if (at < 0 || Checksum(file) != checksum)
        {
            throw new FormatException("its checksum does not fit its content: it was edited or damaged");
        }

        var prior = content.Contains(Prior) ? Tensor(Prior, content.Shape(Prior)) : [];
        var names = content.Names.Where(name => name.EndsWith(MeanSuffix, StringComparison.Ordinal)).Select(name => name[..^MeanSuffix.Length]);
        return new ModelCalibration
        {
            Model = Metadata("model"),
            Frames = long.Parse(Metadata("frames"), NumberStyles.None, CultureInfo.InvariantCulture),
            Created = DateTimeOffset.Parse(Metadata("created"), CultureInfo.InvariantCulture, DateTimeStyles.RoundtripKind),
            Prior = prior,
            Entropy = prior.Length > 0 ? Tensor(Entropy, [ModelCalibration.EntropyQuantiles]) : [],
            Sites = names.ToDictionary(name => name, Site, StringComparer.Ordinal),
        };

        SiteCalibration Site(string name)
        {
            int[] channels = [content.Shape(name + MeanSuffix).Aggregate(1, (product, extent) => product * extent)];
            int[] shape = [prior.Length, channels[0]];
            var hasClasses = content.Contains(name + ".class_mean");
            return new SiteCalibration
            {
                Mean = Tensor(name + MeanSuffix, channels),
                MeanVariance = Positive(name + ".mean_var", channels),
                Variance = NotNegative(name + ".var", channels),
                VarianceVariance = Positive(name + ".var_var", channels),
                ClassMean = hasClasses ? Tensor(name + ".class_mean", shape) : [],
                ClassVariance = hasClasses ? Tensor(name + ".class_var", shape) : [],
                ClassShare = Tensor(name + ".class_share", [1])[0],
                ClassDistance = Tensor(name + ".class_distance", [1])[0],
                FrameDistance = Tensor(name + ".frame_distance", [1])[0],
            };
        }

        float[] Positive(string name, int[] shape)
        {
            var values = Tensor(name, shape);
            return TensorPrimitives.Min<float>(values) > 0 ? values : throw new FormatException($"tensor '{name}' holds values that are not positive");
        }

        float[] NotNegative(string name, int[] shape)
        {
            var values = Tensor(name, shape);
            return TensorPrimitives.Min<float>(values) >= 0 ? values : throw new FormatException($"tensor '{name}' holds negative values");
        }

        float[] Tensor(string name, int[] shape)
        {
            if (!content.Contains(name))
            {
                throw new FormatException($"it lacks tensor '{name}'");
            }

            if (!content.Shape(name).AsSpan().SequenceEqual(shape))
            {
                throw new FormatException($"tensor '{name}' is [{string.Join(',', content.Shape(name))}], expected [{string.Join(',', shape)}]");
            }

            var values = new float[shape.Aggregate(1, (product, extent) => product * extent)];
            content.CopyTo(file, name, values);
            return TensorPrimitives.IsFiniteAll<float>(values) ? values : throw new FormatException($"tensor '{name}' holds values that are not finite");
        }

        string Metadata(string key) => content.Metadata.TryGetValue(key, out var value) ? value : throw new FormatException($"its metadata lack '{key}'");
    }
}
