using System.Text.Json.Nodes;
using TtaService.Engine.Normalization.Affine;
using TtaService.Engine.Normalization.Auto;
using TtaService.Engine.Normalization.Filters;
using TtaService.Engine.Normalization.Plugins;

namespace TtaService.Engine.Normalization;

/// <summary>The methods that a program, or a part of it, knows by name. Immutable: adding makes another registry, so that several live in one process.</summary>
public sealed class MethodRegistry
{
    // A new method of the engine is one file and one line here.
    private static readonly MethodDefinition[] Own =
    [
        Source.Definition,
        Tbn.Definition,
        AlphaBn.Definition,
        Prior.Definition,
        Ema.Definition,
        Tbr.Definition,
        Adaptive.Definition,
        UnmixTns.Definition,
        Iabn.Definition,
        Tent.Definition,
        Eta.Definition,
        AutoMethod.Definition,
    ];

    private static readonly FilterDefinition[] OwnFilters = [Temporal.Definition, Lame.Definition];

    private readonly Dictionary<string, MethodDefinition> _byName;
    private readonly MethodComposition _composition;

    private MethodRegistry(IReadOnlyList<MethodDefinition> definitions)
    {
        _byName = definitions.ToDictionary(definition => definition.Name, StringComparer.Ordinal);
        _composition = new MethodComposition(_byName, OwnFilters);
        All = [.. definitions.Select(definition => definition.Describe())];
    }

    /// <summary>The engine's own methods.</summary>
    public static MethodRegistry BuiltIn { get; } = new(Own);

    /// <summary>Every method, with what a user needs to choose it, in the order in which they were added.</summary>
    public IReadOnlyList<MethodDescription> All { get; }

    /// <summary>Prediction filters, which an expression puts behind a method: <c>unmix_tns+lame</c>. Their hyperparameters stand beside the method's.</summary>
    public IReadOnlyList<MethodDescription> Filters { get; } = [.. OwnFilters.Select(filter => filter.Describe())];

    /// <summary>A registry with these methods, too.</summary>
    /// <param name="definitions">Names that are not taken yet.</param>
    /// <exception cref="MethodRegistrationException">A name is taken or of another form, hyperparameters share a name or have a default that they do not take; the message says
    /// which.</exception>
    public MethodRegistry With(params IEnumerable<MethodDefinition> definitions)
    {
        var all = new List<MethodDefinition>(_byName.Values);
        foreach (var definition in definitions)
        {
            if (definition is null)
            {
                throw new MethodRegistrationException("a method is null; give a MethodDefinition");
            }

            definition.RequireValid();
            all.Add(all.TrueForAll(other => other.Name != definition.Name) && !OwnFilters.Any(filter => filter.Name == definition.Name)
                ? definition
                : throw new MethodRegistrationException($"the name '{definition.Name}' is taken by another method; "
                    + $"choose one beside {string.Join(", ", all.Select(other => other.Name))}"));
        }

        return new MethodRegistry(all);
    }

    /// <summary>A registry with the methods of a plug-in, too.</summary>
    /// <param name="path">An assembly that names its methods in a <see cref="MethodPluginAttribute"/>; it runs in this process with all of its rights.</param>
    /// <exception cref="MethodRegistrationException">It can't be loaded, offers no methods, is made for another contract, fails when it begins, or a name is taken; the message
    /// says which and what to do.</exception>
    public MethodRegistry WithAssembly(string path) => PluginAssembly.Register(this, path);

    /// <summary>What a method is, or one of parts (<c>unmix_tns+lame</c>); null for a name that is none.</summary>
    public MethodDescription? Describe(string name) => Find(name)?.Describe();

    /// <summary>Checks and completes the hyperparameters of a method.</summary>
    /// <param name="name">A name among <see cref="All"/>, or an expression of parts: a method, <c>+</c>, and a name among <see cref="Filters"/>.</param>
    /// <param name="hyperparameters">Those that differ from the defaults. Numbers and strings.</param>
    /// <exception cref="MethodSettingsException">Unknown method or hyperparameter, wrong type, or out of range: the message names it, its range and the value seen.</exception>
    public MethodSettings Settings(string name, JsonObject? hyperparameters = null) => MethodSettings.Create(name, hyperparameters, this);

    /// <summary>A method, or one of parts; the same instance each time. Null for a name that is none.</summary>
    internal MethodDefinition? Find(string name) => _composition.Find(name, out _);

    /// <exception cref="MethodSettingsException">No such method, or parts that don't fit together; the message says which do.</exception>
    internal MethodDefinition Require(string name) => _composition.Find(name, out var problem) ?? throw new MethodSettingsException(problem!);
}

/// <summary>Methods that a registry does not take, or an assembly that offers none.</summary>
public sealed class MethodRegistrationException(string message, Exception? innerException = null) : Exception(message, innerException);
