using System.Globalization;
using System.Text;

namespace TtaService.Serving.Models;

/// <summary>How a model's folder looks from outside: names, sizes and times of its files. Two stamps that are equal mean that nothing was written between them.</summary>
internal static class ModelStamp
{
    // A version's folder lies in the model's, its data in it.
    private static readonly EnumerationOptions Files = new()
    {
        RecurseSubdirectories = true,
        MaxRecursionDepth = 2,
        AttributesToSkip = FileAttributes.None,
        IgnoreInaccessible = true,
    };

    /// <summary>The stamp of a folder; null when it is not there any more.</summary>
    public static string? Of(string folder)
    {
        try
        {
            var stamp = new StringBuilder();
            foreach (var file in new DirectoryInfo(folder).EnumerateFiles("*", Files).OrderBy(file => file.FullName, StringComparer.Ordinal))
            {
                stamp.Append(CultureInfo.InvariantCulture, $"{file.FullName} {file.Length} {file.LastWriteTimeUtc.Ticks}\n");
            }

            return stamp.ToString();
        }
        catch (IOException)
        {
            // Taken away while it was read, or half there: the next look tells.
            return null;
        }
    }
}
