namespace TtaService.Engine.Normalization.Affine;

/// <summary>The part of a method that keeps and moves scales and biases: where they lie in a row, and an optimizer's step over all sites.</summary>
/// <remarks>State per site: scale [C], bias [C], then for each moment of the optimizer one of the scale and one of the bias. State per stream: updates [1].</remarks>
internal sealed class AffineTraining(AffineOptimizer optimizer)
{
    // Where float32 stops counting by one; the corrections that need the count are 1 long before.
    private const float MostUpdates = 1 << 24;

    /// <summary>The tensors that a stream keeps besides those at sites.</summary>
    public IReadOnlyList<StateTensor> StreamState { get; } = [new("updates", [1])];

    /// <summary>The tensors that a stream keeps at a site.</summary>
    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
    [
        new("scale", [site.Channels]),
        new("bias", [site.Channels]),
        .. optimizer.Moments.SelectMany(moment => new StateTensor[] { new($"scale_{moment}", [site.Channels]), new($"bias_{moment}", [site.Channels]) }),
    ];

    /// <summary>The source's scale and bias, and no moments.</summary>
    public static void Initialize(NormalizationSite site, Span<float> state)
    {
        state.Clear();
        site.Weight.CopyTo(state);
        site.Bias.CopyTo(state[site.Channels..]);
    }

    /// <summary>One update of every site, within what may be learned there.</summary>
    public void Learn(in AffineStep step, ReadOnlySpan<float> gradient)
    {
        ref var updates = ref step.NextState[step.Layout.Stream.Offset];
        foreach (var site in step.Sites)
        {
            var parameters = 2 * site.Channels;
            var (offset, floats) = step.Layout.At(site);
            var state = step.NextState.Slice(offset, floats);
            float[] source = [.. site.Weight, .. site.Bias];
            ReadOnlySpan<float> reach = step.Ranges?[site.Index].AffineReach;
            optimizer.Move(gradient[..parameters], state[..parameters], state[parameters..], (long)updates, source, reach);
            gradient = gradient[parameters..];
        }

        updates = Math.Min(updates + 1, MostUpdates);
    }
}
