namespace TtaService.Engine.Evaluation;

/// <summary>torchvision's ImageFolder layout: a folder a class, in the order of their names.</summary>
internal static class ImageFolder
{
    private static readonly string[] Extensions = [".jpg", ".jpeg", ".png", ".webp"];

    /// <summary>The images below the class folders; null when there are none.</summary>
    public static LabelledImages? Find(string path, Func<string, Image> decode)
    {
        if (!Directory.Exists(path))
        {
            return null;
        }

        var classes = Directory.EnumerateDirectories(path).Order(StringComparer.Ordinal).ToList();
        var files = new List<string>();
        var labels = new List<int>();
        for (var label = 0; label < classes.Count; label++)
        {
            var images = Images(classes[label], SearchOption.AllDirectories);
            files.AddRange(images);
            labels.AddRange(Enumerable.Repeat(label, images.Count));
        }

        return files.Count == 0 ? null : new LabelledImages([.. labels], index => decode(files[index]));
    }

    /// <summary>The images that lie in a folder itself, without labels, in the order of their names; null when there are none.</summary>
    public static LabelledImages? FindFrames(string path, Func<string, Image> decode)
    {
        var files = Directory.Exists(path) ? Images(path, SearchOption.TopDirectoryOnly) : [];
        return files.Count == 0 ? null : new LabelledImages(new int[files.Count], index => decode(files[index])) { AreLabelled = false };
    }

    private static List<string> Images(string folder, SearchOption depth) =>
        [.. Directory.EnumerateFiles(folder, "*", depth).Where(file => Extensions.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase)).Order(StringComparer.Ordinal)];
}
