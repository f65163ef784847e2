using System.Globalization;
using System.Reflection;

namespace TtaService.Host.Tests.House;

/// <summary>What an assembly shows to others, a line a type or member, in a fixed order.</summary>
internal static class PublicSurface
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;

    // What the compiler writes for every record, and protoc from the files that are the contract themselves.
    private static readonly HashSet<string> OfEveryRecord =
    [
        "Equals", "GetHashCode", "ToString", "op_Equality", "op_Inequality", "PrintMembers", "<Clone>$", "EqualityContract", "Deconstruct",
    ];
    private const string Generated = "TtaService.V1";

    public static IReadOnlyList<string> Of(Assembly assembly) =>
    [
        .. assembly.GetExportedTypes()
            .Where(type => type.Namespace != Generated)
            .OrderBy(type => type.FullName, StringComparer.Ordinal)
            .SelectMany(type => Members(type).Order(StringComparer.Ordinal).Prepend(Head(type))),
    ];

    private static string Head(Type type)
    {
        var kind = type.IsEnum ? "enum" : type.IsInterface ? "interface" : type.IsValueType ? "struct" : typeof(Delegate).IsAssignableFrom(type) ? "delegate" : "class";
        var modifier = kind != "class" ? "" : type is { IsAbstract: true, IsSealed: true } ? "static " : type.IsAbstract ? "abstract " : type.IsSealed ? "sealed " : "";
        var above = type.BaseType is { } parent && parent != typeof(object) && kind == "class" ? [Name(parent)] : Array.Empty<string>();
        string[] bases = kind == "enum" ? [] : [.. above, .. type.GetInterfaces().Where(one => one.IsPublic).Select(Name).Order(StringComparer.Ordinal)];
        return $"{modifier}{kind} {type.Namespace}.{Name(type)}{(bases.Length > 0 ? " : " + string.Join(", ", bases) : "")}";
    }

    private static IEnumerable<string> Members(Type type)
    {
        if (type.IsEnum)
        {
            return Enum.GetNames(type).Select(name => $"  {name} = {Convert.ToInt64(Enum.Parse(type, name), CultureInfo.InvariantCulture)}");
        }

        return type.GetMembers(Declared).Where(member => !OfEveryRecord.Contains(member.Name)).Select(Line).OfType<string>().Select(line => "  " + line);
    }

    private static string? Line(MemberInfo member) => member switch
    {
        ConstructorInfo made when IsShown(made) && !made.IsStatic => $"new({Parameters(made)})",
        MethodInfo method when IsShown(method) && !method.IsSpecialName => $"{Static(method)}{Name(method.ReturnType)} {method.Name}{Arguments(method)}({Parameters(method)})",
        PropertyInfo property when property.GetAccessors(nonPublic: true).FirstOrDefault(IsShown) is { } shown =>
            $"{Static(shown)}{Name(property.PropertyType)} {property.Name} {{ {Accessors(property)} }}",
        FieldInfo field when field.IsPublic || field.IsFamily =>
            $"{(field.IsLiteral ? "const " : field.IsStatic ? "static " : "")}{Name(field.FieldType)} {field.Name}{Value(field)}",
        EventInfo happening when IsShown(happening.AddMethod!) => $"event {Name(happening.EventHandlerType!)} {happening.Name}",
        _ => null,
    };

    private static bool IsShown(MethodBase method) => method.IsPublic || method.IsFamily || method.IsFamilyOrAssembly;

    private static string Static(MethodInfo method) => method.IsStatic ? "static " : "";

    private static string Value(FieldInfo field) => field.IsLiteral ? string.Create(CultureInfo.InvariantCulture, $" = {field.GetRawConstantValue()}") : "";

    private static string Arguments(MethodInfo method) => method.IsGenericMethod ? $"<{string.Join(", ", method.GetGenericArguments().Select(Name))}>" : "";

    private static string Accessors(PropertyInfo property)
    {
        var init = property.SetMethod?.ReturnParameter.GetRequiredCustomModifiers().Any(modifier => modifier.Name == "IsExternalInit") == true;
        string?[] shown =
        [
            property.GetMethod is { } get && IsShown(get) ? "get;" : null,
            property.SetMethod is { } set && IsShown(set) ? init ? "init;" : "set;" : null,
        ];
        return string.Join(' ', shown.OfType<string>());
    }

    // Names and defaults are part of the contract: callers write them, and compile them in.
    private static string Parameters(MethodBase method) => string.Join(", ", method.GetParameters().Select(parameter =>
        $"{Name(parameter.ParameterType)} {parameter.Name}{Default(parameter)}"));

    private static string Default(ParameterInfo parameter) =>
        parameter.HasDefaultValue ? string.Create(CultureInfo.InvariantCulture, $" = {parameter.RawDefaultValue ?? "default"}") : "";

    private static string Name(Type type)
    {
        if (type.IsArray || type.IsByRef || type.IsPointer)
        {
            return Name(type.GetElementType()!) + (type.IsArray ? "[]" : type.IsByRef ? "&" : "*");
        }

        var name = type.IsNested && !type.IsGenericParameter ? $"{Name(type.DeclaringType!)}.{type.Name}" : type.Name;
        return type.IsGenericType ? $"{name.Split('`')[0]}<{string.Join(", ", type.GetGenericArguments().Select(Name))}>" : name;
    }
}
