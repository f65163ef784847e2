using System.Globalization;
using System.Text;

namespace TtaService.Serving.Streams;

/// <summary>Text that goes into messages and may be a client's.</summary>
internal static class ClientText
{
    /// <summary>Most bytes of an error's text, in UTF-8.</summary>
    public const int MaxErrorBytes = 1000;

    private const int MaxQuoted = 128;

    /// <summary>A client's word, short enough to be part of a message.</summary>
    public static string Clip(string text) => text.Length <= MaxQuoted ? text : string.Concat(text.AsSpan(0, char.IsHighSurrogate(text[MaxQuoted - 1]) ? MaxQuoted - 1 : MaxQuoted), "…");

    /// <summary>The text of an error as it leaves the server: what a terminal or a page would act on is escaped, and its length is bounded.</summary>
    public static string Error(string text)
    {
        if (text.Length <= MaxErrorBytes / 3 && !text.AsSpan().ContainsAnyExceptInRange(' ', '~'))
        {
            return text;
        }

        var (clean, bytes) = (new StringBuilder(Math.Min(text.Length, MaxErrorBytes)), 0);
        foreach (var rune in text.EnumerateRunes())
        {
            // What is no text by itself comes as the replacement character.
            var shown = IsShown(rune) ? rune.ToString() : string.Create(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            bytes += Encoding.UTF8.GetByteCount(shown);
            if (bytes > MaxErrorBytes - "…"u8.Length)
            {
                return clean.Append('…').ToString();
            }

            clean.Append(shown);
        }

        return clean.ToString();
    }

    private static bool IsShown(Rune rune) => Rune.GetUnicodeCategory(rune) is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned);
}
