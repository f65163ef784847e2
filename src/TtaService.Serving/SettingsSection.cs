using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.Options;

namespace TtaService.Serving;

/// <summary>Binds a section of the configuration to its options and checks them at start. Every error names its key.</summary>
internal static class SettingsSection
{
    public static void Add<T>(IServiceCollection services, string section)
        where T : class, new()
    {
        services.AddOptions<T>()
            .Configure<IConfiguration>((options, configuration) => Bind(options, configuration.GetSection(section)))
            .ValidateOnStart();
        services.AddSingleton<IValidateOptions<T>>(provider => new Validation<T>(provider.GetRequiredService<IConfiguration>().GetSection(section)));
    }

    /// <summary>Passes settings on to options that are asked for while the host is built. Wrong ones are left to the start, which names all of them together.</summary>
    public static void WhenValid<T>(IOptions<T> options, Action<T> use)
        where T : class
    {
        try
        {
            use(options.Value);
        }
        catch (OptionsValidationException)
        {
            // As said above.
        }
    }

    // Key by key, so that one start names all the keys that are wrong; returns what was wrong with them.
    private static List<string> Bind<T>(T options, IConfigurationSection section)
        where T : class
    {
        var properties = typeof(T).GetProperties().Where(property => property.CanWrite).ToDictionary(property => property.Name, StringComparer.OrdinalIgnoreCase);
        var problems = new List<string>();
        foreach (var key in section.GetChildren())
        {
            if (!properties.TryGetValue(key.Key, out var property))
            {
                problems.Add($"{key.Path} is not a setting; {section.Path} has {string.Join(", ", properties.Keys)}");
                continue;
            }

            try
            {
                // A list of one may be written as a value.
                property.SetValue(options, property.PropertyType == typeof(string[]) && key.Value is { } only ? new[] { only } : key.Get(property.PropertyType));
            }
            catch (InvalidOperationException)
            {
                problems.Add($"{key.Path} is '{key.Value}', which is not {KindOf(property.PropertyType)}");
            }
        }

        return problems;
    }

    private static string KindOf(Type type) => Type.GetTypeCode(type.IsEnum ? typeof(object) : type) switch
    {
        TypeCode.Int32 or TypeCode.Int64 => "a whole number",
        TypeCode.Single or TypeCode.Double => "a number",
        TypeCode.Boolean => "true or false",
        _ when type.IsEnum => $"one of {string.Join(", ", Enum.GetNames(type).Select(name => name.ToLowerInvariant()))}",
        _ when type == typeof(TimeSpan) => "a time span such as 00:00:10",
        _ => $"a {type.Name}",
    };

    private sealed class Validation<T>(IConfigurationSection section) : IValidateOptions<T>
        where T : class, new()
    {
        public ValidateOptionsResult Validate(string? name, T options)
        {
            // What could not be bound has left its default in the options.
            var problems = Bind(new T(), section);
            foreach (var property in typeof(T).GetProperties())
            {
                var value = property.GetValue(options);
                foreach (var rule in property.GetCustomAttributes<ValidationAttribute>())
                {
                    if (!rule.IsValid(value))
                    {
                        problems.Add($"{section.Path}:{property.Name} is '{Convert.ToString(value, CultureInfo.InvariantCulture)}', it must be {Describe(rule)}");
                    }
                }
            }

            return problems.Count == 0 ? ValidateOptionsResult.Success : ValidateOptionsResult.Fail(problems);
        }

        private static string Describe(ValidationAttribute rule) => rule switch
        {
            RangeAttribute range => string.Create(CultureInfo.InvariantCulture, $"{range.Minimum} to {range.Maximum}"),
            RegularExpressionAttribute pattern => pattern.ErrorMessage ?? $"of the form {pattern.Pattern}",
            RequiredAttribute => "set",
            _ => rule.FormatErrorMessage(string.Empty),
        };
    }
}
