using System.Buffers;
using System.Numerics.Tensors;

namespace TtaService.Engine.Normalization.Filters;

/// <summary>LAME: predictions of frames whose features are alike are drawn together, in a Laplacian-regularized correction of a batch.</summary>
/// <remarks>Boudiaf et al., CVPR 2022; code fiveai/LAME: Y0 = p; Y &lt;- softmax_k( ln(p + 1e-10) + W Y ), until the energy sum( -Y ln(p + 1e-10) - Y W Y + Y ln Y ) settles;
/// W from features of length 1, exp( -d^2 / (2 s^2) ) with s the mean distance to the k-th nearest (the frame itself counts), or 1 to the k nearest others, or the cosine.
/// Published for a batch of frames: a step of one frame stays as it is. So that cameras of single frames gain, too, a step is joined here by the stream's last frames, as
/// far as <c>lame_memory</c> goes; they are answered no more. State: <c>memory</c> [M,D+Q] (features of length 1, p), the oldest first, <c>frames</c> [1].</remarks>
internal sealed class Lame : IPredictionFilter
{
    private const float LeastProbability = 1e-10f;
    private const float LeastBandwidth = 1e-6f;
    private const int MostRounds = 100;
    private const double Settled = 1e-8;

    private readonly int _memory;
    private readonly int _neighbors;
    private readonly string _affinity;
    private readonly int _features;
    private readonly int _classes;

    public Lame(MethodSettings settings, MethodTarget target)
    {
        (_features, _classes) = (target.Features, target.Classes);
        _memory = settings.Integer("lame_memory");
        _neighbors = settings.Integer("lame_neighbors");
        _affinity = settings.Text("lame_affinity");
        State = _memory == 0 ? [] : [new StateTensor("memory", [_memory, Row]), new StateTensor("frames", [1])];
    }

    public static FilterDefinition Definition { get; } = new(
        "lame",
        "Draws predictions of frames together whose features are alike: of the step, and of the stream's last frames.",
        "Boudiaf et al., CVPR 2022 (LAME); the memory for small steps is our own",
        [
            Hyperparameter.Integer("lame_memory", 8, 0, 1024, "Earlier frames of the stream that join a step up to so many together; 0, as published, for the step's alone."),
            Hyperparameter.Integer("lame_neighbors", 5, 1, 1024, "The nearest frames that count: for knn, and for the bandwidth of rbf."),
            Hyperparameter.Choice("lame_affinity", "How alike two frames are; the published code's default is rbf.", "knn", "rbf", "linear"),
        ],
        ReadsFeatures: true,
        (settings, target) => new Lame(settings, target),
        "For streams whose neighbouring frames show the same class; on shuffled frames it makes many errors more.");

    public IReadOnlyList<StateTensor> State { get; }

    public bool ReadsFeatures => true;

    private int Row => _features + _classes;

    public void Initialize(Span<float> state) => state.Clear();

    public void Run(in FilterStep step)
    {
        var (n, q) = (step.Frames, _classes);
        // A snapshot may come from anywhere.
        var known = State.Count == 0 ? 0 : (int)Math.Clamp(step.State[^1], 0, _memory);
        var joined = Math.Clamp(_memory - n, 0, known);
        var all = joined + n;
        var floats = (all * (_features + (3 * q))) + (all * all);
        var rented = ArrayPool<float>.Shared.Rent(floats);
        try
        {
            var features = rented.AsSpan(0, all * _features);
            var unary = rented.AsSpan(features.Length, all * q);
            var answer = rented.AsSpan(features.Length + unary.Length, all * q);
            var pulled = rented.AsSpan(features.Length + (2 * unary.Length), all * q);
            var affinity = rented.AsSpan(features.Length + (3 * unary.Length), all * all);
            for (var i = 0; i < joined; i++)
            {
                var remembered = step.State.Slice((known - joined + i) * Row, Row);
                remembered[.._features].CopyTo(features[(i * _features)..]);
                remembered[_features..].CopyTo(answer[(i * q)..]);
            }

            for (var i = 0; i < n; i++)
            {
                Normalized(step.Features.Slice(i * _features, _features), features.Slice((joined + i) * _features, _features));
            }

            step.Probabilities.CopyTo(answer[(joined * q)..]);
            Remember(step.State, known, features[(joined * _features)..], step.Probabilities);
            if (all > 1)
            {
                Affinity(features, affinity, all);
                Correct(affinity, unary, answer, pulled, all);
            }

            answer[(joined * q)..].CopyTo(step.Answer);
        }
        finally
        {
            ArrayPool<float>.Shared.Return(rented);
        }
    }

    private static void Normalized(ReadOnlySpan<float> features, Span<float> unit)
    {
        var length = TensorPrimitives.Norm(features);
        TensorPrimitives.Divide(features, length > 0 ? length : 1, unit);
    }

    // The newest frames are the last rows.
    private void Remember(Span<float> state, int known, ReadOnlySpan<float> features, ReadOnlySpan<float> probabilities)
    {
        if (_memory == 0)
        {
            return;
        }

        var n = probabilities.Length / _classes;
        var taken = Math.Min(n, _memory);
        var kept = Math.Min(known, _memory - taken);
        state.Slice((known - kept) * Row, kept * Row).CopyTo(state);
        for (var i = 0; i < taken; i++)
        {
            var frame = n - taken + i;
            var row = state.Slice((kept + i) * Row, Row);
            features.Slice(frame * _features, _features).CopyTo(row);
            probabilities.Slice(frame * _classes, _classes).CopyTo(row[_features..]);
        }

        state[^1] = kept + taken;
    }

    // W, [all,all].
    private void Affinity(ReadOnlySpan<float> features, Span<float> affinity, int all)
    {
        for (var i = 0; i < all; i++)
        {
            for (var j = 0; j <= i; j++)
            {
                var cosine = i == j ? 1 : TensorPrimitives.Dot(features.Slice(i * _features, _features), features.Slice(j * _features, _features));
                affinity[(i * all) + j] = affinity[(j * all) + i] = _affinity == "linear" ? cosine : Math.Max(0, 2 - (2 * cosine));
            }
        }

        if (_affinity == "linear")
        {
            return;
        }

        // Squared distances so far.
        var sorted = new float[all];
        var (nearest, bandwidth) = (Math.Min(_neighbors, all), 0f);
        for (var i = 0; i < all; i++)
        {
            var row = affinity.Slice(i * all, all);
            row.CopyTo(sorted);
            Array.Sort(sorted);
            if (_affinity == "rbf")
            {
                bandwidth += MathF.Sqrt(sorted[nearest - 1]) / all;
                continue;
            }

            Nearest(row, i, sorted[Math.Min(_neighbors, all - 1)]);
        }

        if (_affinity == "rbf")
        {
            bandwidth = Math.Max(bandwidth, LeastBandwidth);
            TensorPrimitives.Multiply(affinity, -1 / (2 * bandwidth * bandwidth), affinity);
            TensorPrimitives.Exp(affinity, affinity);
        }
    }

    // Row i of W for knn: 1 to as many others as count; of those as far as the last one the first.
    private void Nearest(Span<float> distances, int i, float limit)
    {
        var left = Math.Min(_neighbors, distances.Length - 1);
        foreach (var ties in new[] { false, true })
        {
            for (var j = 0; j < distances.Length; j++)
            {
                if (j != i && left > 0 && (ties ? distances[j] == limit : distances[j] < limit))
                {
                    (distances[j], left) = (-1, left - 1);
                }
            }
        }

        for (var j = 0; j < distances.Length; j++)
        {
            distances[j] = distances[j] == -1 ? 1 : 0;
        }
    }

    private void Correct(ReadOnlySpan<float> affinity, Span<float> unary, Span<float> answer, Span<float> pulled, int all)
    {
        TensorPrimitives.Add(answer, LeastProbability, unary);
        TensorPrimitives.Log(unary, unary);
        var before = double.PositiveInfinity;
        for (var round = 0; round < MostRounds; round++)
        {
            Pull(affinity, answer, pulled, all);
            for (var i = 0; i < all; i++)
            {
                var row = answer.Slice(i * _classes, _classes);
                TensorPrimitives.Add(pulled.Slice(i * _classes, _classes), unary.Slice(i * _classes, _classes), row);
                TensorPrimitives.Subtract(row, TensorPrimitives.Max<float>(row), row);
                TensorPrimitives.SoftMax<float>(row, row);
            }

            var energy = Energy(unary, pulled, answer);
            if (round > 1 && Math.Abs(energy - before) <= Settled * Math.Abs(before))
            {
                return;
            }

            before = energy;
        }
    }

    // W Y
    private void Pull(ReadOnlySpan<float> affinity, ReadOnlySpan<float> answer, Span<float> pulled, int all)
    {
        pulled.Clear();
        for (var i = 0; i < all; i++)
        {
            var row = pulled.Slice(i * _classes, _classes);
            for (var j = 0; j < all; j++)
            {
                if (affinity[(i * all) + j] != 0)
                {
                    TensorPrimitives.MultiplyAdd(answer.Slice(j * _classes, _classes), affinity[(i * all) + j], row, row);
                }
            }
        }
    }

    // With the neighbours' answers of the round before, as the published code.
    private static double Energy(ReadOnlySpan<float> unary, ReadOnlySpan<float> pulled, ReadOnlySpan<float> answer)
    {
        var energy = -(double)TensorPrimitives.Dot(unary, answer) - TensorPrimitives.Dot(pulled, answer);
        foreach (var y in answer)
        {
            energy += y * Math.Log(Math.Max(y, 1e-20));
        }

        return energy;
    }
}
