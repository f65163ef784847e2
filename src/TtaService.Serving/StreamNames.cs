using System.Buffers;

namespace TtaService.Serving;

/// <summary>What a stream may be called.</summary>
internal static class StreamNames
{
    /// <summary>Most characters of a name.</summary>
    public const int MaxLength = 128;

    private static readonly SearchValues<char> Characters = SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-");

    /// <summary>Whether a stream may be called this.</summary>
    public static bool IsName(string name) => name.Length is > 0 and <= MaxLength && !name.AsSpan().ContainsAnyExcept(Characters);
}
