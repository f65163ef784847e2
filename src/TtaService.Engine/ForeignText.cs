using System.Globalization;
using System.Text;

namespace TtaService.Engine;

/// <summary>Text of a client or a file that goes into messages: short, and without what a terminal, a log or a page would act on.</summary>
internal static class ForeignText
{
    private const int QuotedBytes = 128;

    /// <summary>A word of theirs, short enough to be part of a message.</summary>
    public static string Clip(string text) => Clip(text, QuotedBytes);

    /// <summary>The text, or as much of it as takes so many bytes of UTF-8, with control and format characters escaped.</summary>
    public static string Clip(string text, int bytes)
    {
        if (text.Length <= bytes && !text.AsSpan().ContainsAnyExceptInRange(' ', '~'))
        {
            return text;
        }

        var (clean, taken) = (new StringBuilder(), 0);
        foreach (var rune in text.EnumerateRunes())
        {
            // A half of a pair comes as the replacement character.
            var shown = IsShown(rune) ? rune.ToString() : string.Create(CultureInfo.InvariantCulture, $"\\u{rune.Value:x4}");
            taken += Encoding.UTF8.GetByteCount(shown);
            if (taken > bytes - "…"u8.Length)
            {
                return clean.Append('…').ToString();
            }

            clean.Append(shown);
        }

        return clean.ToString();
    }

    private static bool IsShown(Rune rune) => Rune.GetUnicodeCategory(rune)
        is not (UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator
        or UnicodeCategory.PrivateUse or UnicodeCategory.OtherNotAssigned);
}
