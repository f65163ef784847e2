namespace TtaService.Engine.Normalization.Filters;

/// <summary>A prediction filter as a part of method expressions: <c>unmix_tns+lame</c>.</summary>
/// <param name="Name">In an expression, behind a normalization method.</param>
/// <param name="Summary">One sentence.</param>
/// <param name="Source">Paper and code that it follows.</param>
/// <param name="Own">What can be set, each named <c>&lt;filter&gt;_&lt;name&gt;</c> beside the method's own.</param>
/// <param name="ReadsFeatures">Whether it reads the features that the classifier reads.</param>
/// <param name="Create">Makes the filter with a method's settings on a model.</param>
/// <param name="Warning">What a user must know before choosing it, or null.</param>
internal sealed record FilterDefinition(
    string Name,
    string Summary,
    string Source,
    IReadOnlyList<Hyperparameter> Own,
    bool ReadsFeatures,
    Func<MethodSettings, MethodTarget, IPredictionFilter> Create,
    string? Warning = null)
{
    /// <summary>The hyperparameter of a method with a filter that switches it off for a stream.</summary>
    public const string Switch = "filter";

    /// <summary>What switches the filter behind a method off.</summary>
    public static Hyperparameter OnOrOff { get; } =
        Hyperparameter.Choice(Switch, "Whether answers are filtered; off: each frame's own prediction.", "on", "off");

    public MethodDescription Describe() => new(Name, Summary, Source, [.. Own.Select(own => own.Describe())], Warning);
}
