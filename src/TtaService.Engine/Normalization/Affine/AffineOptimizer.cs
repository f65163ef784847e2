namespace TtaService.Engine.Normalization.Affine;

/// <summary>How parameters move against their gradient, one rule for every optimizer: state and mathematics as in torch.optim.</summary>
internal abstract class AffineOptimizer
{
    // An update may go this share of the whole way that a scale or bias may go from the source's (LearningOptions): a quarter of a deviation by default.
    private const float ShareOfAnUpdate = 1f / 32;

    /// <summary>Reads the optimizer of a method's settings.</summary>
    public static AffineOptimizer Of(MethodSettings settings)
    {
        var (rate, momentum) = (settings.Number("learning_rate"), settings.Number("momentum"));
        return settings.Text("optimizer") == "adam" ? new Adam(rate, momentum) : new NesterovSgd(rate, momentum);
    }

    /// <summary>What <see cref="Of"/> reads, with the published values for small pictures.</summary>
    public static IReadOnlyList<Hyperparameter> Hyperparameters { get; } =
    [
        Hyperparameter.Number("learning_rate", 1e-3, 0, 1, "How far a gradient step goes. Published: 0.001 with adam on CIFAR, 0.00025 with sgd on ImageNet."),
        Hyperparameter.Choice("optimizer", "torch's Adam (second moment 0.999), or SGD with Nesterov's momentum.", "adam", "sgd"),
        Hyperparameter.Number("momentum", 0.9, 0, 0.9999, "Of the gradient: Adam's first moment, or SGD's momentum."),
    ];

    /// <summary>What is kept of each parameter, by name.</summary>
    public abstract IReadOnlyList<string> Moments { get; }

    /// <summary>Moves the parameters of a site.</summary>
    /// <param name="gradient">[P].</param>
    /// <param name="parameters">[P], overwritten.</param>
    /// <param name="moments">[moments,P], overwritten.</param>
    /// <param name="updates">Updates before this one.</param>
    /// <param name="source">The source's parameters, [P].</param>
    /// <param name="reach">How far a parameter may go from the source's, [P]; empty when it may go anywhere.</param>
    public void Move(ReadOnlySpan<float> gradient, Span<float> parameters, Span<float> moments, long updates, ReadOnlySpan<float> source, ReadOnlySpan<float> reach)
    {
        for (var i = 0; i < parameters.Length; i++)
        {
            var change = Change(gradient[i], moments, i, parameters.Length, updates + 1);
            if (reach.IsEmpty)
            {
                parameters[i] -= change;
                continue;
            }

            // Not a number stays one, and is refused with the step.
            var most = reach[i] * ShareOfAnUpdate;
            parameters[i] = Math.Clamp(parameters[i] - Math.Clamp(change, -most, most), source[i] - reach[i], source[i] + reach[i]);
        }
    }

    /// <summary>What is taken off the i-th of P parameters, at the t-th update.</summary>
    protected abstract float Change(float gradient, Span<float> moments, int i, int parameters, long t);

    private sealed class Adam(float rate, float momentum) : AffineOptimizer
    {
        private const double SecondMoment = 0.999;
        private const double Epsilon = 1e-8;

        // A snapshot refuses a negative "_var".
        public override IReadOnlyList<string> Moments { get; } = ["grad_mean", "grad_var"];

        protected override float Change(float gradient, Span<float> moments, int i, int parameters, long t)
        {
            ref var mean = ref moments[i];
            ref var square = ref moments[parameters + i];
            mean = (momentum * mean) + ((1 - momentum) * gradient);
            square = (float)((SecondMoment * square) + ((1 - SecondMoment) * gradient * gradient));
            var deviation = (Math.Sqrt(square) / Math.Sqrt(1 - Math.Pow(SecondMoment, t))) + Epsilon;
            return (float)(rate / (1 - Math.Pow(momentum, t)) * mean / deviation);
        }
    }

    private sealed class NesterovSgd(float rate, float momentum) : AffineOptimizer
    {
        public override IReadOnlyList<string> Moments { get; } = ["grad_momentum"];

        protected override float Change(float gradient, Span<float> moments, int i, int parameters, long t)
        {
            moments[i] = (momentum * moments[i]) + gradient;
            return rate * (gradient + (momentum * moments[i]));
        }
    }
}
