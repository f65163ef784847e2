using System.ComponentModel;
using System.Globalization;
using System.Text.Json;

namespace TtaService.Serving.Store;

/// <summary>Reads and writes an enumeration's values in snake_case, as configuration has them.</summary>
internal sealed class SnakeCaseEnumConverter<T> : TypeConverter
    where T : struct, Enum
{
    private static readonly Dictionary<string, T> Values = Enum.GetValues<T>().ToDictionary(Name);

    /// <summary>A value as configuration spells it.</summary>
    public static string Name(T value) => JsonNamingPolicy.SnakeCaseLower.ConvertName(value.ToString());

    public override bool CanConvertFrom(ITypeDescriptorContext? context, Type sourceType) => sourceType == typeof(string);

    public override object ConvertFrom(ITypeDescriptorContext? context, CultureInfo? culture, object value) =>
        value is string text && Values.TryGetValue(text, out var known)
            ? known
            : throw new FormatException($"'{value}' is none of {string.Join(", ", Values.Keys)}");

    public override object ConvertTo(ITypeDescriptorContext? context, CultureInfo? culture, object? value, Type destinationType) =>
        value is T known && destinationType == typeof(string) ? Name(known) : throw GetConvertToException(value, destinationType);
}
