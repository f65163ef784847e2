using System.Globalization;

namespace TtaService.Evaluation;

/// <summary>A folder of images of one class.</summary>
/// <param name="Name">The folder's name.</param>
/// <param name="Class">The class, from 0.</param>
/// <param name="Images">How many images lie in it.</param>
public sealed record ClassFolder(string Name, int Class, int Images);

/// <summary>The classes of a model, to be matched with folders of labelled data.</summary>
/// <param name="Count">How many there are.</param>
/// <param name="Labels">Their names by index; empty when the model has none.</param>
public sealed record ModelClasses(int Count, IReadOnlyList<string> Labels)
{
    private const int Listed = 8;

    /// <summary>The class of each folder: by its label, else by its label without regard to case and signs (a folder can't be called T-shirt/top), else by its index.</summary>
    /// <exception cref="DataFormatException">A folder fits no class, two fit one, or a class has no folder.</exception>
    public int[] Match(string path, IReadOnlyList<string> folders)
    {
        var numbers = By(folders, label => label) ?? By(folders, Plain) ?? ByIndex(folders) ?? throw new DataFormatException(Unknown(path, folders));
        if (numbers.Zip(folders).GroupBy(pair => pair.First).FirstOrDefault(pairs => pairs.Count() > 1) is { } twice)
        {
            throw new DataFormatException($"{path}: folders {string.Join(" and ", twice.Select(pair => pair.Second))} are both class {Name(twice.Key)}; put their images into one");
        }

        var missing = Enumerable.Range(0, Count).Except(numbers).ToList();
        return missing.Count == 0
            ? numbers
            : throw new DataFormatException($"{path}: the model has {Count} classes, there is no folder for {List(missing.Select(Name))}; if the data hold none of them, "
                + "add an empty folder for each, so that nothing is left out by mistake");
    }

    private int[]? By(IReadOnlyList<string> folders, Func<string, string> form)
    {
        var labels = new Dictionary<string, int>(StringComparer.Ordinal);
        for (var i = 0; i < Labels.Count; i++)
        {
            if (!labels.TryAdd(form(Labels[i]), i))
            {
                return null;
            }
        }

        return folders.All(folder => labels.ContainsKey(form(folder))) ? [.. folders.Select(folder => labels[form(folder)])] : null;
    }

    private int[]? ByIndex(IReadOnlyList<string> folders)
    {
        var numbers = folders.Select(folder => int.TryParse(folder, NumberStyles.None, CultureInfo.InvariantCulture, out var number) && number < Count ? number : -1).ToArray();
        return Array.TrueForAll(numbers, number => number >= 0) ? numbers : null;
    }

    private string Unknown(string path, IReadOnlyList<string> folders)
    {
        if (Labels.Count == 0)
        {
            return $"{path}: model.json has no labels, so folders are matched by index, and {List(folders.Where(folder => ByIndex([folder]) is null))} is none of "
                + $"0 to {Count - 1}; name the folders by index, or add labels to model.json";
        }

        var known = Labels.Select(Plain).ToHashSet(StringComparer.Ordinal);
        var unknown = folders.Where(folder => !known.Contains(Plain(folder))).ToList();
        return $"{path}: {List(unknown.Count > 0 ? unknown : folders)} fits no label of model.json ({List(Labels)}); name every folder by its label, "
            + $"or every folder by its index, 0 to {Count - 1}";
    }

    private string Name(int index) => index < Labels.Count ? $"{index} ({Labels[index]})" : index.ToString(CultureInfo.InvariantCulture);

    private static string List(IEnumerable<string> names)
    {
        var all = names.ToList();
        return string.Join(", ", all.Take(Listed)) + (all.Count > Listed ? $" and {all.Count - Listed} more" : string.Empty);
    }

    private static string Plain(string label) => string.Concat(label.Where(char.IsLetterOrDigit)).ToUpperInvariant();
}
