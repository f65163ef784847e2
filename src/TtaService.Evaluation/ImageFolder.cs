namespace TtaService.Evaluation;

/// <summary>torchvision's ImageFolder layout: a folder a class.</summary>
internal static class ImageFolder
{
    private static readonly string[] Extensions = [".jpg", ".jpeg", ".png", ".webp"];

    /// <summary>The images below the class folders; null when there are none.</summary>
    /// <param name="path">The folder of folders.</param>
    /// <param name="decode">Decodes a file.</param>
    /// <param name="classes">The model's classes, which the folders' names are matched with; null to number the folders in the order of their names.</param>
    public static LabelledImages? Find(string path, Func<string, Image> decode, ModelClasses? classes)
    {
        if (!Directory.Exists(path))
        {
            return null;
        }

        // Hidden ones are tools' own.
        var folders = Directory.EnumerateDirectories(path).Where(folder => Path.GetFileName(folder)[0] != '.').Order(StringComparer.Ordinal).ToList();
        var found = folders.ConvertAll(folder => Images(folder, SearchOption.AllDirectories));
        if (found.TrueForAll(images => images.Count == 0))
        {
            return null;
        }

        var names = folders.ConvertAll(folder => Path.GetFileName(folder));
        int[] numbers = classes is null ? [.. Enumerable.Range(0, folders.Count)] : classes.Match(path, names);
        var files = new List<string>();
        var labels = new List<int>();
        for (var folder = 0; folder < folders.Count; folder++)
        {
            files.AddRange(found[folder]);
            labels.AddRange(Enumerable.Repeat(numbers[folder], found[folder].Count));
        }

        return new LabelledImages([.. labels], index => decode(files[index])) { Folders = [.. names.Select((name, i) => new ClassFolder(name, numbers[i], found[i].Count))] };
    }

    /// <summary>The images that lie in a folder itself, without labels, in the order of their names; null when there are none.</summary>
    public static LabelledImages? FindFrames(string path, Func<string, Image> decode)
    {
        var files = Directory.Exists(path) ? Images(path, SearchOption.TopDirectoryOnly) : [];
        return files.Count == 0 ? null : new LabelledImages(new int[files.Count], index => decode(files[index])) { AreLabelled = false };
    }

    private static List<string> Images(string folder, SearchOption depth) =>
        [.. Directory.EnumerateFiles(folder, "*", depth)
            .Where(file => Extensions.Contains(Path.GetExtension(file), StringComparer.OrdinalIgnoreCase))
            .Order(StringComparer.Ordinal)];
}
