using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;

namespace TtaService.Evaluation;

/// <summary>NumPy's .npy format (version 1 to 3): images (N,H,W) or (N,H,W,C) of uint8, and labels (N) of any integer type.</summary>
internal static partial class NpyFiles
{
    private const int MaxLabel = 1_000_000;

    /// <summary>The pair of arrays in a folder; null when there is none.</summary>
    public static LabelledImages? Find(string path)
    {
        var folder = Directory.Exists(path) ? path : Path.GetDirectoryName(Path.GetFullPath(path))!;
        if (!Directory.Exists(path) && !path.EndsWith(".npy", StringComparison.Ordinal))
        {
            return null;
        }

        var files = Directory.EnumerateFiles(folder, "*.npy").Order(StringComparer.Ordinal).ToList();
        var labels = files.Find(file => Path.GetFileName(file).Contains("label", StringComparison.OrdinalIgnoreCase));
        var images = Directory.Exists(path)
            ? files.Find(file => Path.GetFileName(file).Contains("image", StringComparison.OrdinalIgnoreCase)) ?? (files.Count == 2 ? files.Find(file => file != labels) : null)
            : path;
        if (images is null && labels is null)
        {
            return null;
        }

        return images is not null && labels is not null
            ? Read(images, labels)
            : throw new DataFormatException($"{folder} holds {(images is null ? "labels without images" : "images without labels")}; expected *images*.npy and *labels*.npy");
    }

    private static LabelledImages Read(string imagesPath, string labelsPath)
    {
        var (imagesType, shape, images) = Array(imagesPath);
        var (labelsType, labelsShape, labels) = Array(labelsPath);
        if (imagesType != "|u1" || shape.Length is not (3 or 4) || (shape.Length == 4 && shape[3] is not (1 or 3)) || shape.Contains(0))
        {
            throw new DataFormatException($"{imagesPath} is {imagesType} [{string.Join(',', shape)}]; expected uint8 (N,H,W), (N,H,W,1) or (N,H,W,3)");
        }

        var size = LabelBytes(labelsType);
        if (labelsShape.Length != 1 || labelsShape[0] != shape[0])
        {
            throw new DataFormatException($"{labelsPath} is {labelsType} [{string.Join(',', labelsShape)}]; expected {shape[0]} little-endian integers, one for each image");
        }

        var numbers = new int[shape[0]];
        for (var i = 0; i < numbers.Length; i++)
        {
            var bytes = labels.AsSpan(i * size, size);
            Int128 label = labelsType switch
            {
                "|u1" => bytes[0],
                "|i1" => (sbyte)bytes[0],
                "<u2" => BinaryPrimitives.ReadUInt16LittleEndian(bytes),
                "<i2" => BinaryPrimitives.ReadInt16LittleEndian(bytes),
                "<u4" => BinaryPrimitives.ReadUInt32LittleEndian(bytes),
                "<i4" => BinaryPrimitives.ReadInt32LittleEndian(bytes),
                "<u8" => BinaryPrimitives.ReadUInt64LittleEndian(bytes),
                _ => BinaryPrimitives.ReadInt64LittleEndian(bytes),
            };
            numbers[i] = label >= 0 && label <= MaxLabel
                ? (int)label
                : throw new DataFormatException($"{labelsPath} holds label {label} at {i}; labels count from 0 and go to {MaxLabel} at most");
        }

        return LabelledImages.InMemory(images, shape[1], shape[2], shape.Length == 4 ? shape[3] : 1, numbers);
    }

    private static (string Type, int[] Shape, byte[] Data) Array(string path)
    {
        var bytes = File.ReadAllBytes(path);
        if (bytes.Length < 12 || bytes[0] != 0x93 || !bytes.AsSpan(1, 5).SequenceEqual("NUMPY"u8))
        {
            throw new DataFormatException($"{path} is not a .npy file");
        }

        var wide = bytes[6] > 1;
        var length = wide ? BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(8)) : BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(8));
        var start = wide ? 12L : 10L;
        if (start + length > bytes.Length)
        {
            throw new DataFormatException($"{path} is cut short in its header");
        }

        var header = Encoding.UTF8.GetString(bytes, (int)start, (int)length);
        var (type, order, shapeText) = (TypeEntry().Match(header), OrderEntry().Match(header), ShapeEntry().Match(header));
        if (!type.Success || !shapeText.Success || order.Groups[1].Value != "False")
        {
            throw new DataFormatException($"{path} has the header {header.Trim()}; expected a plain array in C order");
        }

        var shape = shapeText.Groups[1].Value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(extent => int.TryParse(extent, NumberStyles.None, CultureInfo.InvariantCulture, out var value)
                ? value
                : throw new DataFormatException($"{path} has the shape ({shapeText.Groups[1].Value}), which is too large")).ToArray();
        var size = LabelBytes(type.Groups[1].Value);
        if (size == 0)
        {
            throw new DataFormatException($"{path} holds values of type {type.Groups[1].Value}; expected uint8 images or little-endian integers as labels");
        }

        var elements = shape.Aggregate((Int128)1, (product, extent) => product * extent);
        var data = bytes.Length - start - length;
        return elements * size == data
            ? (type.Groups[1].Value, shape, bytes[(int)(start + length)..])
            : throw new DataFormatException($"{path} says {type.Groups[1].Value} [{string.Join(',', shape)}], but holds {data} bytes of values");
    }

    private static int LabelBytes(string type) => type switch
    {
        "|u1" or "|i1" => 1,
        "<u2" or "<i2" => 2,
        "<u4" or "<i4" => 4,
        "<u8" or "<i8" => 8,
        _ => 0,
    };

    [GeneratedRegex("'descr': *'([^']+)'")]
    private static partial Regex TypeEntry();

    [GeneratedRegex("'fortran_order': *(True|False)")]
    private static partial Regex OrderEntry();

    [GeneratedRegex(@"'shape': *\(([0-9, ]*)\)")]
    private static partial Regex ShapeEntry();
}
