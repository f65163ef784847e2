using System.Text.RegularExpressions;
using TtaService.Engine.Normalization.Filters;

namespace TtaService.Engine.Normalization;

/// <summary>A line of a registry: how a method is named, described, set and made.</summary>
/// <param name="Name">On the wire, in configuration and in snapshots: lower-case letters, digits and underscores, a letter first, at most 64.</param>
/// <param name="Summary">One sentence.</param>
/// <param name="Source">Paper and code that it follows.</param>
/// <param name="Own">What can be set, beside the choice of sites, which every method has.</param>
/// <param name="Create">Makes the method with settings on a model. Called more than once for a model; with no sites where only what is the same on any model is asked.</param>
/// <param name="Warning">What a user must know before choosing it, or null.</param>
public sealed partial record MethodDefinition(
    string Name,
    string Summary,
    string Source,
    IReadOnlyList<Hyperparameter> Own,
    Func<MethodSettings, MethodTarget, INormalizationMethod> Create,
    string? Warning = null)
{
    /// <summary>A method that needs to know nothing of the model but its sites, one at a time.</summary>
    /// <param name="name">As <see cref="Name"/>.</param>
    /// <param name="summary">One sentence.</param>
    /// <param name="source">Paper and code that it follows.</param>
    /// <param name="own">What can be set.</param>
    /// <param name="create">Makes the method with settings.</param>
    /// <param name="warning">What a user must know before choosing it, or null.</param>
    public MethodDefinition(
        string name,
        string summary,
        string source,
        IReadOnlyList<Hyperparameter> own,
        Func<MethodSettings, INormalizationMethod> create,
        string? warning = null)
        : this(name, summary, source, own, (settings, _) => create(settings), warning)
    {
    }

    /// <summary>The version of what the method keeps of a stream, from 1: count it up when a state of an older one no longer means the same. A snapshot says it, and one of
    /// another version is refused. Default 1.</summary>
    public int Version { get; init; } = 1;

    /// <summary>The prediction filter behind the method; null for none.</summary>
    internal FilterDefinition? Filter { get; init; }

    /// <summary>Why a filter behind it makes no sense and what to write instead, given the filter's name; null where any does.</summary>
    internal Func<string, string?> RefusesFilter { get; init; } = _ => null;

    /// <summary>The name of what normalizes: <see cref="Name"/>, without a filter behind it.</summary>
    internal string NormalizationName { get; init; } = Name;

    /// <summary>The method's own hyperparameters, the site filter, which every method has, and those of the filter behind it.</summary>
    internal IReadOnlyList<Hyperparameter> Hyperparameters => [.. Own ?? [], .. SiteFilter.Hyperparameters, .. OfFilter];

    // A method of others may have a hyperparameter that is called like the switch.
    private IEnumerable<Hyperparameter> OfFilter => Filter is null ? []
        : Own.Any(own => own.Name == FilterDefinition.Switch) ? Filter.Own : [FilterDefinition.OnOrOff, .. Filter.Own];

    internal MethodDescription Describe() => new(Name, Summary, Source, [.. Hyperparameters.Select(h => h.Describe())], Warning) { Version = Version };

    /// <summary>The method with settings on a model.</summary>
    /// <exception cref="MethodSettingsException">It can't be made.</exception>
    internal INormalizationMethod Make(MethodSettings settings, MethodTarget target)
    {
        try
        {
            return Create(settings, target) ?? throw new MethodAnswerException("null was made; Create gives a method, or throws a MethodSettingsException that says why it can't");
        }
        catch (Exception fault) when (fault is not MethodSettingsException && MethodFault.IsOwn(fault))
        {
            throw new MethodSettingsException(MethodFault.Message(Name, "when it was made", fault));
        }
    }

    /// <exception cref="MethodRegistrationException">It can't be registered.</exception>
    internal void RequireValid()
    {
        if (Name is null || !NameForm().IsMatch(Name))
        {
            throw Wrong("a name is of lower-case letters, digits and underscores, a letter first, at most 64");
        }

        if (Summary is null || Source is null || Own is null || Create is null)
        {
            throw Wrong("summary, source, hyperparameters and what makes it must not be null");
        }

        if (Version < 1)
        {
            throw Wrong($"its version is {Version}; versions count from 1");
        }

        if (Own.FirstOrDefault(own => !NameForm().IsMatch(own.Name)) is { } unnamed)
        {
            throw Wrong($"hyperparameter '{ForeignText.Clip(unnamed.Name)}': a name is of lower-case letters, digits and underscores, a letter first, at most 64");
        }

        if (Hyperparameters.GroupBy(own => own.Name).FirstOrDefault(group => group.Count() > 1) is { Key: var twice })
        {
            throw Wrong($"it has more than one hyperparameter '{twice}' (every method has {string.Join(" and ", SiteFilter.Hyperparameters.Select(own => own.Name))})");
        }

        foreach (var own in Own)
        {
            if (own.Parse(own.Default, out var problem) is null)
            {
                throw Wrong($"the default of hyperparameter '{own.Name}' {problem}, not {own.Default.ToJsonString()}");
            }
        }
    }

    private MethodRegistrationException Wrong(string problem) => new($"method '{ForeignText.Clip(Name ?? "")}' can't be registered: {problem}");

    [GeneratedRegex("^[a-z][a-z0-9_]{0,63}$")]
    private static partial Regex NameForm();
}

/// <summary>What a method is and what can be set.</summary>
/// <param name="Name">Its name on the wire and in configuration.</param>
/// <param name="Summary">One sentence.</param>
/// <param name="Source">Paper and code that it follows.</param>
/// <param name="Hyperparameters">What can be set.</param>
/// <param name="Warning">What a user must know before choosing it, or null.</param>
public sealed record MethodDescription(string Name, string Summary, string Source, IReadOnlyList<HyperparameterDescription> Hyperparameters, string? Warning)
{
    /// <summary>The version of what it keeps of a stream; see <see cref="MethodDefinition.Version"/>.</summary>
    public int Version { get; init; } = 1;
}

/// <summary>One hyperparameter: its default as JSON, and its range or its choices.</summary>
/// <param name="Name">In snake case.</param>
/// <param name="Summary">One sentence.</param>
/// <param name="Default">As JSON.</param>
/// <param name="Range">What it takes, in words.</param>
public sealed record HyperparameterDescription(string Name, string Summary, string Default, string Range);
