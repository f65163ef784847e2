using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;

namespace TtaService.Host.Commands;

/// <summary>Options whose values are numbers within bounds; the refusal names the option, its bounds and the value seen.</summary>
internal static class NumberOption
{
    public static Option<int> Integer(string name, string description, int fallback, int minimum, int maximum) => new(name)
    {
        Description = $"{description} ({minimum} to {Bound(maximum)})",
        HelpName = "N",
        DefaultValueFactory = _ => fallback,
        CustomParser = result => One(result, name, minimum, maximum),
    };

    public static Option<int?> OptionalInteger(string name, string description, int minimum, int maximum) => new(name)
    {
        Description = $"{description} ({minimum} to {Bound(maximum)})",
        HelpName = "N",
        CustomParser = result => One(result, name, minimum, maximum),
    };

    public static Option<double> Real(string name, string description, double fallback, double minimum, double maximum) => new(name)
    {
        Description = $"{description} ({minimum.ToString(CultureInfo.InvariantCulture)} to {maximum.ToString(CultureInfo.InvariantCulture)})",
        HelpName = "X",
        DefaultValueFactory = _ => fallback,
        CustomParser = result =>
        {
            var text = result.Tokens[0].Value;
            if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && value >= minimum && value <= maximum)
            {
                return value;
            }

            result.AddError(string.Create(CultureInfo.InvariantCulture, $"{name} is '{text}'; give a number from {minimum} to {maximum}."));
            return fallback;
        },
    };

    /// <summary>Reads a number that may be left out.</summary>
    public static Func<ArgumentResult, double?> PositiveReal(string name, double minimum, double maximum) => result =>
    {
        var text = result.Tokens[0].Value;
        if (double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out var value) && value >= minimum && value <= maximum)
        {
            return value;
        }

        result.AddError(string.Create(CultureInfo.InvariantCulture, $"{name} is '{text}'; give a number from {minimum} to {maximum}."));
        return null;
    };

    /// <summary>A list such as <c>1,16,64</c>, with ranges <c>0..4</c>.</summary>
    public static Option<int[]> List(string name, string description, int[] fallback, int minimum, int maximum) => new(name)
    {
        Description = $"{description}; a list 1,2 or a range 0..4",
        HelpName = "LIST",
        DefaultValueFactory = _ => fallback,
        CustomParser = result =>
        {
            var text = result.Tokens[0].Value;
            var values = new List<int>();
            foreach (var part in text.Split(',', StringSplitOptions.TrimEntries))
            {
                var ends = part.Split("..");
                if (ends.Length > 2 || !TryParse(ends[0], minimum, maximum, out var first) || !TryParse(ends[^1], minimum, maximum, out var last) || last < first || last - first >= MaximumRange)
                {
                    result.AddError($"{name} is '{text}'; give whole numbers from {minimum} to {Bound(maximum)} as a list (1,2) or a range (0..4).");
                    return fallback;
                }

                values.AddRange(Enumerable.Range(first, last - first + 1));
            }

            return [.. values.Distinct()];
        },
    };

    private const int MaximumRange = 10_000;

    private static int One(ArgumentResult result, string name, int minimum, int maximum)
    {
        var text = result.Tokens[0].Value;
        if (!TryParse(text, minimum, maximum, out var value))
        {
            result.AddError($"{name} is '{text}'; give a whole number from {minimum} to {Bound(maximum)}.");
        }

        return value;
    }

    private static bool TryParse(string text, int minimum, int maximum, out int value) =>
        int.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out value) && value >= minimum && value <= maximum;

    private static string Bound(int maximum) => maximum == int.MaxValue ? "2^31-1" : maximum.ToString(CultureInfo.InvariantCulture);
}
