using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace TtaService.Serving.Store;

/// <summary>The file of a checkpoint: <c>&lt;stream, escaped&gt;~&lt;number&gt;.safetensors</c>, <c>.rejected</c> when it was set aside, or <c>.dropped</c> for the mark of a
/// stream that made room.</summary>
/// <remarks>
/// Lower-case letters, digits, - and _ stand for themselves, every other byte of the key's UTF-8 as =XX: no key leaves the folder, hides a file, or equals another on a file system
/// that
/// ignores case. A long key is cut and its SHA-256 follows a double ==; then only the file itself tells the whole key.
/// </remarks>
internal static class CheckpointFileName
{
    public const string Stored = ".safetensors";
    public const string Rejected = ".rejected";
    public const string Dropped = ".dropped";

    private const int MaxEscaped = 160;
    private const int KeptOfLong = 80;

    public static string Of(string stream, long number, string extension) =>
        string.Create(CultureInfo.InvariantCulture, $"{Escape(stream)}~{number:D8}{extension}");

    /// <summary>Reads a name back.</summary>
    /// <param name="name">A file name.</param>
    /// <param name="number">The checkpoint's number.</param>
    /// <param name="stream">The stream's key; null when the name has only its digest.</param>
    /// <returns>Whether the name is one of these.</returns>
    public static bool TryParse(string name, out long number, out string? stream)
    {
        (number, stream) = (0, null);
        var extension = Path.GetExtension(name);
        var mark = name.LastIndexOf('~');
        if (mark < 0 || extension is not (Stored or Rejected or Dropped)
            || !long.TryParse(name.AsSpan(mark + 1, name.Length - mark - 1 - extension.Length), NumberStyles.None, CultureInfo.InvariantCulture, out number)
            || number <= 0)
        {
            return false;
        }

        var escaped = name[..mark];
        stream = escaped.Contains("==", StringComparison.Ordinal) ? null : Unescape(escaped);
        return stream is null || Of(stream, number, extension) == name;
    }

    private static string Escape(string stream)
    {
        var escaped = new StringBuilder();
        var utf8 = Encoding.UTF8.GetBytes(stream);
        foreach (var b in utf8)
        {
            if (b is (>= (byte)'a' and <= (byte)'z') or (>= (byte)'0' and <= (byte)'9') or (byte)'-' or (byte)'_')
            {
                escaped.Append((char)b);
            }
            else
            {
                escaped.Append(CultureInfo.InvariantCulture, $"={b:x2}");
            }
        }

        return escaped.Length <= MaxEscaped
            ? escaped.ToString()
            : $"{escaped.ToString(0, KeptOfLong).TrimEnd('=')}=={Convert.ToHexStringLower(SHA256.HashData(utf8))}";
    }

    private static string Unescape(string escaped)
    {
        var utf8 = new List<byte>(escaped.Length);
        for (var i = 0; i < escaped.Length; i++)
        {
            if (escaped[i] == '=' && i + 2 < escaped.Length && byte.TryParse(escaped.AsSpan(i + 1, 2), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out var b))
            {
                utf8.Add(b);
                i += 2;
            }
            else
            {
                utf8.Add((byte)escaped[i]);
            }
        }

        return Encoding.UTF8.GetString([.. utf8]);
    }
}
