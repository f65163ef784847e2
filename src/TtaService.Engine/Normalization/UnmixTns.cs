using System.Buffers;
using System.Numerics.Tensors;
using TtaService.Engine.Tensors;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Normalization;

/// <summary>UnMix-TNS: normalizes each frame with the mixture of K statistics components, each drawn towards the frame by its similarity.</summary>
/// <remarks>Tomar et al., ICLR 2024; code devavratTomar/unmixtns, unmixtns.py. With m, v the frame's instance statistics and (M_k, V_k) the components:
/// p_k = softmax_k(cos(m, M_k)/temperature); mu_k = (1-p_k) M_k + p_k m; var_k = (1-p_k) V_k + p_k v; mu = avg mu_k; var = avg var_k + avg mu_k^2 - mu^2.
/// After use, from the old components: M_k += lam avg_b p_bk (m_b - M_k), V_k likewise; lam = 1 - (1 - bn_momentum)^(frames/batch_size_max).
/// The variance mix has no cross term, as in the code. Computed around the mean component (methods.md 1.8, exact), which keeps float32 from cancelling.
/// At a virtual site the cosine is taken of (m - origin)/deviation0, the features that BatchNormalization saw but for the scale of each channel: its mean was folded into
/// the convolution's bias, so that
/// the outputs themselves lie around 0, where directions mean little and one component answers for all (it erred 44.0 instead of 41.9 % on the demo model, five seeds).
/// Sites over [B,C] keep the source statistics. State per site: component_mean [K,C], component_var [K,C], and component_occupancy [K], a running average of p that is
/// watched and never read here; float32.</remarks>
internal sealed class UnmixTns(MethodSettings settings) : ISpanMethod
{
    public static MethodDefinition Definition { get; } = new(
        "unmix_tns",
        "A mixture of K statistics components per stream; works one frame at a time on correlated streams.",
        "Tomar et al., ICLR 2024 (UnMix-TNS)",
        [
            Hyperparameter.Integer("components", 16, 1, 1024, "K."),
            Hyperparameter.Number("temperature", 0.07, 1e-3, 100, "Of the assignment softmax."),
            Hyperparameter.Number("alpha", 0.5, 0, 1, "Share of the source variance that the spread of the initial component means carries."),
            Hyperparameter.Integer("batch_size_max", 64, 1, 1 << 20, "B_max: the frames that the site's BatchNorm momentum is meant for (64 for CIFAR, 16 for ImageNet in "
                + "the paper's runs)."),
            Hyperparameter.Integer("batch_size", 0, 0, 1 << 20, "Frames a step counts for the momentum; 0 means the actual number, another value fixes it as the published "
                + "code does."),
            Hyperparameter.Choice("initial", "Initial components: matched to the source moments exactly, or the published random draw.", "matched", "reference"),
        ],
        settings => new UnmixTns(settings));

    // As the observed statistics' window.
    private const int OccupancyFrames = 128;

    private readonly int _components = settings.Integer("components");
    private readonly float _temperature = settings.Number("temperature");
    private readonly float _alpha = settings.Integer("components") == 1 ? 0 : settings.Number("alpha");
    private readonly int _batchSizeMax = settings.Integer("batch_size_max");
    private readonly int _batchSize = settings.Integer("batch_size");
    private readonly bool _matched = settings.Text("initial") == "matched";

    public bool ReadsFrames => true;

    public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) =>
        [new("component_mean", [_components, site.Channels]), new("component_var", [_components, site.Channels]), new("component_occupancy", [_components])];

    public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state)
    {
        var (k, channels) = (_components, site.Channels);
        var z = new double[k];
        for (var c = 0; c < channels; c++)
        {
            for (var i = 0; i < k; i++)
            {
                z[i] = seed.Normal((i * channels) + c);
            }

            var spread = Math.Sqrt(_alpha * k / Math.Max(1, k - 1.0));
            if (_matched && k > 1)
            {
                // Mean 0 and population deviation 1 per channel: the mixture then equals the source exactly, whatever the seed.
                var mean = z.Average();
                var deviation = Math.Sqrt(z.Sum(value => (value - mean) * (value - mean)) / k);
                for (var i = 0; i < k; i++)
                {
                    z[i] = (z[i] - mean) / deviation;
                }

                spread = Math.Sqrt(_alpha);
            }

            for (var i = 0; i < k; i++)
            {
                state[(i * channels) + c] = (float)(site.Mean[c] + (spread * Math.Sqrt(site.Variance[c]) * z[i]));
                state[((k + i) * channels) + c] = (1 - _alpha) * site.Variance[c];
            }
        }

        state[(2 * k * channels)..].Fill(1f / k);
    }

    public double? OccupancyEntropy(NormalizationSite site, ReadOnlySpan<float> state)
    {
        var entropy = 0.0;
        foreach (var share in state[(2 * _components * site.Channels)..])
        {
            entropy -= share > 0 ? share * Math.Log(share) : 0;
        }

        return _components == 1 ? null : Math.Clamp(entropy / Math.Log(_components), 0, 1);
    }

    public void Forward(in SiteStep step)
    {
        if (!step.Spatial)
        {
            step.UseSource();
            return;
        }

        var (k, channels, n) = (_components, step.Channels, step.Frames);
        var M = step.State[..(k * channels)];
        var V = step.State.Slice(k * channels, k * channels);
        var isFolded = step.Site.Kind == SiteKind.Virtual;
        var rented = ArrayPool<float>.Shared.Rent((2 * k * channels) + (7 * channels) + (n * k) + k + (isFolded ? (k + 1) * channels : 0));
        try
        {
            var scratch = new Scratch(rented);
            var D = scratch.Take(k * channels);                                             // [K,C], M_k - Mb
            var D2 = scratch.Take(k * channels);                                            // [K,C], squared
            var Mb = scratch.Take(channels);                                                // [C], mean of the component means
            var Vb = scratch.Take(channels);                                                // [C], mean of the component variances
            var p = scratch.Take(n * k);                                                    // [n,K]
            var norms = scratch.Take(k);                                                    // [K], |M_k|
            var directions = M;                                                             // [K,C], compared with the frame's
            var mine = isFolded ? scratch.Take(channels) : default;                         // [C]
            if (isFolded)
            {
                var folded = scratch.Take(k * channels);
                for (var i = 0; i < k; i++)
                {
                    Unfold(M.Slice(i * channels, channels), step.Site, folded.Slice(i * channels, channels));
                }

                directions = folded;
            }

            Average(M, channels, Mb);
            Average(V, channels, Vb);
            for (var i = 0; i < k; i++)
            {
                var component = M.Slice(i * channels, channels);
                norms[i] = MathF.Max(TensorPrimitives.Norm(directions.Slice(i * channels, channels)), 1e-12f);
                TensorPrimitives.Subtract(component, Mb, D.Slice(i * channels, channels));
            }

            TensorPrimitives.Multiply(D, D, D2);
            var d = scratch.Take(channels);                                                 // [C], m - Mb
            var pd = scratch.Take(channels);
            var pv = scratch.Take(channels);
            var squares = scratch.Take(channels);
            var cross = scratch.Take(channels);
            for (var b = 0; b < n; b++)
            {
                var m = step.InstanceMean.Slice(b * channels, channels);
                var v = step.InstanceVariance.Slice(b * channels, channels);
                var pb = p.Slice(b * k, k);
                if (isFolded)
                {
                    Unfold(m, step.Site, mine);
                }

                Assign(isFolded ? mine : m, directions, norms, pb);
                pd.Clear();
                pv.Clear();
                squares.Clear();
                cross.Clear();
                for (var i = 0; i < k; i++)
                {
                    var (pi, qi) = (pb[i], 1 - pb[i]);
                    var Di = D.Slice(i * channels, channels);
                    TensorPrimitives.MultiplyAdd(Di, pi, pd, pd);                             // P D
                    TensorPrimitives.MultiplyAdd(V.Slice(i * channels, channels), pi, pv, pv);  // P V
                    TensorPrimitives.MultiplyAdd(D2.Slice(i * channels, channels), qi * qi, squares, squares);
                    TensorPrimitives.MultiplyAdd(Di, pi * qi, cross, cross);
                }

                var pp = TensorPrimitives.SumOfSquares<float>(pb);
                var mean = step.Mean.Slice(b * channels, channels);
                var variance = step.Variance.Slice(b * channels, channels);
                TensorPrimitives.Subtract(m, Mb, d);
                // mean = m - ((K-1) d + P D)/K: exact for K = 1, where the frame's own mean must come out unrounded
                TensorPrimitives.MultiplyAdd(d, k - 1f, pd, mean);
                TensorPrimitives.Divide(mean, k, mean);
                TensorPrimitives.Subtract(m, mean, mean);
                // mean - Mb = (d - P D)/K
                TensorPrimitives.Subtract(d, pd, pd);
                TensorPrimitives.Divide(pd, k, pd);
                // var = Vb + ((v - P V) + (1-P)^2 D^2 + 2 d (P(1-P) D) + d^2 sum P^2)/K - (mean - Mb)^2
                TensorPrimitives.Subtract(v, pv, pv);
                TensorPrimitives.Add(pv, squares, squares);
                TensorPrimitives.Add(cross, cross, cross);
                TensorPrimitives.MultiplyAdd(d, pp, cross, cross);
                TensorPrimitives.MultiplyAdd(d, cross, squares, squares);
                TensorPrimitives.Divide(squares, k, squares);
                TensorPrimitives.Add(Vb, squares, squares);
                TensorPrimitives.Multiply(pd, pd, pd);
                TensorPrimitives.Subtract(squares, pd, variance);
                TensorPrimitives.Max(variance, 0f, variance);
            }

            Update(step, p);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
    {
        if (!steps.Spatial)
        {
            return steps.Source;
        }

        var (k, channels, n) = (_components, steps.Channels, steps.Frames);
        var (m, v) = (steps.InstanceMean, steps.InstanceVariance);
        var (M, V) = (steps.StateAt(0, k, channels), steps.StateAt(k * channels, k, channels));
        var p = Unit(Unfold(m, steps)).bmm(Unit(Unfold(M, steps)).transpose(1, 2)).DivideInPlace(_temperature).softmax(2);         // [S,n,K]
        var q = p.OneMinus();
        var Mb = M.mean([1L], keepdim: true);
        var Vb = V.mean([1L], keepdim: true);
        var D = M - Mb;
        var d = m - Mb;
        var pd = p.bmm(D);
        // mean and var as in the span version
        var mean = m - d.Times(k - 1f).Plus(pd).Over((long)k);
        var shift = (d - pd).Over((long)k);
        var cross = (p * q).bmm(D).Times(2).Plus(d * p.Squared().sum([2L], keepdim: true));
        var variance = Vb.Plus((v - p.bmm(V)).Plus(q.Squared().bmm(D.Squared())).Plus(d * cross).Over((long)k)) - shift.Squared();
        Propose(steps, p, M, V);
        return (mean, variance.AtLeast(0));

        static Tensor Unit(Tensor rows) => rows / rows.norm(2, keepdim: true).AtLeast(1e-12f);
    }

    // (m - origin)/deviation0; a virtual site's weight is its source's deviation.
    private static void Unfold(ReadOnlySpan<float> mean, NormalizationSite site, Span<float> unfolded)
    {
        TensorPrimitives.Subtract(mean, site.Origin, unfolded);
        TensorPrimitives.Divide(unfolded, site.Weight, unfolded);
    }

    private static Tensor Unfold(Tensor means, SiteTensors steps) =>
        steps.Origin is { } origin ? (means - origin) / steps.SourceVariance.Plus(steps.Site.Epsilon).sqrt() : means;

    private void Propose(SiteTensors steps, Tensor p, Tensor M, Tensor V)
    {
        var (k, channels, n) = (_components, steps.Channels, steps.Frames);
        var rate = BatchStatistics.RateOfStep(steps.Site.Momentum, _batchSize == 0 ? n : _batchSize, _batchSizeMax) / n;
        var weights = p.Times(rate).transpose(1, 2);                                           // [S,K,n]
        var kept = weights.sum([2L], keepdim: true).OneMinus();
        steps.Propose(0, k, channels, (M * kept).Plus(weights.bmm(steps.InstanceMean)));
        steps.Propose(k * channels, k, channels, (V * kept).Plus(weights.bmm(steps.InstanceVariance)));
        var occupancy = steps.StateAt(2 * k * channels, 1, k);
        steps.Propose(2 * k * channels, 1, k, SiteTensors.Mix(occupancy, p.mean([1L], keepdim: true), OccupancyRate(n)));
    }

    private static float OccupancyRate(int frames) => (float)(1 - Math.Pow(1 - (1.0 / OccupancyFrames), frames));

    // p_k = softmax_k(cos(m, M_k)/temperature)
    private void Assign(ReadOnlySpan<float> m, ReadOnlySpan<float> M, ReadOnlySpan<float> norms, Span<float> p)
    {
        var norm = MathF.Max(TensorPrimitives.Norm(m), 1e-12f);
        for (var i = 0; i < p.Length; i++)
        {
            p[i] = TensorPrimitives.Dot(m, M.Slice(i * m.Length, m.Length)) / (norm * norms[i] * _temperature);
        }

        var largest = TensorPrimitives.Max<float>(p);
        for (var i = 0; i < p.Length; i++)
        {
            p[i] = MathF.Exp(p[i] - largest);
        }

        TensorPrimitives.Divide(p, TensorPrimitives.Sum<float>(p), p);
    }

    // M_k += lam avg_b p_bk (m_b - M_k), V_k likewise, from the old M and V.
    private void Update(in SiteStep step, ReadOnlySpan<float> p)
    {
        var (k, channels, n) = (_components, step.Channels, step.Frames);
        var rate = BatchStatistics.RateOfStep(step.Site.Momentum, _batchSize == 0 ? n : _batchSize, _batchSizeMax) / n;
        var occupancy = step.NextState[(2 * k * channels)..];
        var forgets = OccupancyRate(n) / n;
        for (var i = 0; i < k; i++)
        {
            var total = 0f;
            for (var b = 0; b < n; b++)
            {
                total += p[(b * k) + i];
            }

            var old = step.State[(2 * k * channels) + i];
            occupancy[i] = old + (forgets * (total - (n * old)));
            var mean = step.NextState.Slice(i * channels, channels);
            var variance = step.NextState.Slice((k + i) * channels, channels);
            TensorPrimitives.Multiply(step.State.Slice(i * channels, channels), 1 - (rate * total), mean);
            TensorPrimitives.Multiply(step.State.Slice((k + i) * channels, channels), 1 - (rate * total), variance);
            for (var b = 0; b < n; b++)
            {
                var weight = rate * p[(b * k) + i];
                TensorPrimitives.MultiplyAdd(step.InstanceMean.Slice(b * channels, channels), weight, mean, mean);
                TensorPrimitives.MultiplyAdd(step.InstanceVariance.Slice(b * channels, channels), weight, variance, variance);
            }
        }
    }

    private static void Average(ReadOnlySpan<float> rows, int channels, Span<float> average)
    {
        var count = rows.Length / channels;
        rows[..channels].CopyTo(average);
        for (var i = 1; i < count; i++)
        {
            TensorPrimitives.Add(average, rows.Slice(i * channels, channels), average);
        }

        TensorPrimitives.Divide(average, count, average);
    }

    private ref struct Scratch(Span<float> memory)
    {
        private Span<float> _rest = memory;

        public Span<float> Take(int length)
        {
            var taken = _rest[..length];
            _rest = _rest[length..];
            return taken;
        }
    }
}
