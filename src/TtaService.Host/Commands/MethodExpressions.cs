using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf.WellKnownTypes;
using TtaService.Engine.Normalization;

namespace TtaService.Host.Commands;

/// <summary>A method as the user wrote it: <c>ema{momentum=0.1}</c>.</summary>
/// <param name="Label">What tables call it: the name, with the hyperparameters that were given.</param>
/// <param name="Settings">The validated settings.</param>
/// <param name="Given">The hyperparameters that were given.</param>
internal sealed record MethodChoice(string Label, MethodSettings Settings, JsonObject Given)
{
    /// <summary>The same for the wire.</summary>
    public V1.Method ToWire() => new() { Name = Settings.Name, Hyperparameters = Struct.Parser.ParseJson(Given.ToJsonString()) };
}

/// <summary>Reads <c>source,ema{momentum=0.1},unmix_tns{components=16;temperature=0.05}+lame{neighbors=3}</c> and <c>--set unmix_tns.components=16</c>.</summary>
internal static class MethodExpressions
{
    private const char Joint = '+';

    /// <param name="expressions">As the user wrote them.</param>
    /// <param name="overrides">Hyperparameters that were set beside.</param>
    /// <param name="methods">Where names are looked up.</param>
    /// <exception cref="MethodSettingsException">No such method, or it can't be set so.</exception>
    public static IReadOnlyList<MethodChoice> Parse(string expressions, IReadOnlyList<string> overrides, MethodRegistry methods)
    {
        var parsed = Split(expressions).Select(ParseOne).ToList();
        foreach (var text in overrides)
        {
            var (path, value) = Assignment(text, "--set");
            var dot = path.IndexOf('.', StringComparison.Ordinal);
            if (dot <= 0)
            {
                throw CommandException.WrongUse($"--set {text} does not name a method; write it as METHOD.NAME=VALUE, for example ema.momentum=0.1");
            }

            var targets = parsed.Where(method => method.Name == path[..dot]).ToList();
            if (targets.Count == 0)
            {
                throw CommandException.WrongUse($"--set {text} is for {path[..dot]}, but --method lists {string.Join(", ", parsed.Select(method => method.Name))}; "
                    + "add it there or drop the setting");
            }

            targets.ForEach(method => method.Given[path[(dot + 1)..]] = Value(value));
        }

        var choices = parsed.ConvertAll(method => new MethodChoice(Label(method.Name, method.Given), methods.Settings(method.Name, method.Given), method.Given));
        return choices.GroupBy(choice => choice.Label).FirstOrDefault(group => group.Count() > 1) is { } twice
            ? throw CommandException.WrongUse($"--method lists {twice.Key} more than once; list each method with the same hyperparameters once")
            : choices;
    }

    /// <summary>One method, where a list makes no sense.</summary>
    public static MethodChoice ParseSingle(string expression, MethodRegistry methods) =>
        Parse(expression, [], methods) is [var choice] ? choice : throw Several(expression);

    /// <summary>One method of a server, which may know more than the engine's own; those are checked before anything is sent.</summary>
    public static V1.Method ParseForServer(string expression)
    {
        (string Name, JsonObject Given)[] parsed = [.. Split(expression).Select(ParseOne)];
        var (name, given) = parsed is [var only] ? only : throw Several(expression);
        return MethodRegistry.BuiltIn.Describe(name) is null
            ? new V1.Method { Name = name, Hyperparameters = Struct.Parser.ParseJson(given.ToJsonString()) }
            : ParseSingle(expression, MethodRegistry.BuiltIn).ToWire();
    }

    // unmix_tns{components=16}+lame{neighbors=5}: what is behind a joint is set by its own names, which stand beside the method's as lame_neighbors.
    private static (string Name, JsonObject Given) ParseOne(string expression)
    {
        var parts = Split(expression, Joint).Select(ParsePart).ToList();
        var given = parts[0].Given;
        foreach (var (name, own) in parts.Skip(1))
        {
            foreach (var (hyperparameter, value) in own)
            {
                given[hyperparameter.StartsWith($"{name}_", StringComparison.Ordinal) ? hyperparameter : $"{name}_{hyperparameter}"] = value?.DeepClone();
            }
        }

        return (string.Join(Joint, parts.Select(part => part.Name)), given);
    }

    private static (string Name, JsonObject Given) ParsePart(string expression)
    {
        var open = expression.IndexOf('{', StringComparison.Ordinal);
        if (open < 0)
        {
            return (expression, []);
        }

        if (!expression.EndsWith('}'))
        {
            throw Malformed(expression);
        }

        var given = new JsonObject();
        var last = "";
        foreach (var text in expression[(open + 1)..^1].Split([',', ';'], StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries))
        {
            if (last.Length > 0 && !text.Contains('=', StringComparison.Ordinal))
            {
                // A list as a value: sites_pattern=layer1*,layer2*.
                given[last] = $"{given[last]},{text}";
                continue;
            }

            (last, var value) = Assignment(text, expression);
            given[last] = Value(value);
        }

        return (expression[..open].Trim(), given);
    }

    private static IEnumerable<string> Split(string expressions, char separator = ',')
    {
        var (start, depth) = (0, 0);
        for (var i = 0; i <= expressions.Length; i++)
        {
            if (i == expressions.Length || (expressions[i] == separator && depth == 0))
            {
                var part = expressions[start..i].Trim();
                if (part.Length == 0 || depth != 0)
                {
                    throw Malformed(expressions);
                }

                yield return part;
                start = i + 1;
            }
            else
            {
                depth += expressions[i] switch { '{' => 1, '}' => -1, _ => 0 };
                if (depth is < 0 or > 1)
                {
                    throw Malformed(expressions);
                }
            }
        }
    }

    private static (string Name, string Value) Assignment(string text, string where)
    {
        var equals = text.IndexOf('=', StringComparison.Ordinal);
        return equals > 0 && equals < text.Length - 1
            ? (text[..equals].Trim(), text[(equals + 1)..].Trim())
            : throw CommandException.WrongUse($"'{text}' in {where} is not NAME=VALUE");
    }

    // Numbers and booleans as JSON writes them; anything else is a string.
    private static JsonValue Value(string text)
    {
        try
        {
            return JsonNode.Parse(text) is JsonValue value ? value : JsonValue.Create(text);
        }
        catch (JsonException)
        {
            return JsonValue.Create(text);
        }
    }

    private static string Label(string name, JsonObject given)
    {
        string[] parts = name.Split(Joint);
        bool Behind(string hyperparameter) => parts.Skip(1).Any(part => hyperparameter.StartsWith($"{part}_", StringComparison.Ordinal));
        return string.Join(Joint, parts.Select((part, i) => i == 0
            ? Braced(part, given.Where(pair => !Behind(pair.Key)).Select(pair => (pair.Key, pair.Value)))
            : Braced(part, given.Where(pair => pair.Key.StartsWith($"{part}_", StringComparison.Ordinal)).Select(pair => (pair.Key[(part.Length + 1)..], pair.Value)))));
    }

    private static string Braced(string name, IEnumerable<(string Name, JsonNode? Value)> given)
    {
        var settings = string.Join(';', given.Select(pair => $"{pair.Name}={pair.Value}"));
        return settings.Length == 0 ? name : $"{name}{{{settings}}}";
    }

    private static CommandException Several(string expression) => CommandException.WrongUse($"--method '{expression}' lists several methods; give one");

    private static CommandException Malformed(string text) =>
        CommandException.WrongUse($"--method '{text}' can't be read; "
            + $"write names separated by commas, hyperparameters in braces, a prediction filter behind a +: source,ema{{momentum=0.1}}+temporal");
}
