using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>A forward pass on any device and in any precision: statistics and the methods' algebra in float32 torch operators, a group of like steps at a time.</summary>
/// <remarks>Nothing here waits for the device: it is read once, behind the pass.</remarks>
internal sealed class DevicePass(
    IReadOnlyList<StepGroup> groups,
    IReadOnlyList<SiteParameters> parameters,
    bool[]? atSource = null,
    IReadOnlyList<SiteRangeTensors>? ranges = null) : ISiteNormalizer
{
    private readonly int _frames = groups[^1].FirstFrame + (groups[^1].Steps * groups[^1].Frames);

    public Tensor Normalize(NormalizationSite site, Tensor x, bool mayOverwrite, Tensor? residual, Epilogue epilogue)
    {
        SiteActivations.Check(site, x);
        using var scope = NewDisposeScope();
        var shape = x.shape;
        if (atSource?[site.Index] == true || shape[0] % _frames != 0 || x.numel() == 0)
        {
            return AtSource(site, x, residual, epilogue).MoveToOuterDisposeScope();
        }

        // Frames lie outermost; k rows of a frame are k times its pixels.
        var rows = shape[0] / _frames;
        var spatial = shape.Length > 2 || rows > 1;
        var wide = x.to_type(ScalarType.Float32);
        var flat = rows == 1 ? wide.reshape(shape[0], shape[1], -1) : wide.reshape(_frames, rows, shape[1], -1).transpose(1, 2).reshape(_frames, shape[1], -1);
        if (rows == 1 && groups.All(group => group.TrainsOnItsSteps(site, checked((int)flat.shape[2]))))
        {
            return TrainedOnSteps(site, wide, flat, residual, epilogue).to_type(x.dtype).MoveToOuterDisposeScope();
        }

        (Tensor Mean, Tensor Variance)? statistics = null;
        if (groups.Any(group => group.NeedsStatistics(site)))
        {
            var (variance, mean) = flat.var_mean([2L], unbiased: false);
            statistics = (mean, variance);
        }

        var own = parameters[site.Index];
        var pixels = checked((int)flat.shape[2]);
        var normalizers = groups.Select(group => group.Normalize(site, own, statistics, pixels, spatial, ranges?[site.Index])).ToArray();
        long[] perFrame = [shape[0], shape[1], .. Enumerable.Repeat(1L, shape.Length - 2)];
        long[] perChannel = [1, .. perFrame.AsSpan(1)];
        var deviation = PerRow(Joined(normalizers, normalizer => normalizer.Variance)).Plus(site.Epsilon).rsqrt();
        var hasOwn = Array.Exists(normalizers, normalizer => normalizer.Scale is not null);
        var weight = hasOwn ? PerRow(Joined(normalizers, normalizer => normalizer.Scale ?? own.Weight.expand_as(normalizer.Mean))) : own.Weight;
        var bias = hasOwn ? PerRow(Joined(normalizers, normalizer => normalizer.Bias ?? own.Bias.expand_as(normalizer.Mean))).view(perFrame) : own.Bias.view(perChannel);
        var scale = (weight * deviation).view(perFrame);
        // Centred before it is scaled: the difference is where float32 would cancel.
        var y = bias.AddProduct(wide - PerRow(Joined(normalizers, normalizer => normalizer.Mean)).view(perFrame), scale);
        if (residual is not null)
        {
            y.AddInPlace(residual);
        }

        Fused.Clamp(y, epilogue);
        return y.to_type(x.dtype).MoveToOuterDisposeScope();

        Tensor PerRow(Tensor statistic) => rows == 1 ? statistic : statistic.unsqueeze(1).expand(_frames, rows, site.Channels).reshape(shape[0], site.Channels);
    }

    // Torch's own batch normalization costs less than half of the operators below, forward and back.
    private Tensor TrainedOnSteps(NormalizationSite site, Tensor wide, Tensor flat, Tensor? residual, Epilogue epilogue)
    {
        if (groups.Any(group => group.Observation is not null || group.Outside is not null))
        {
            using var off = no_grad();
            var (mean, variance) = InstanceStatistics(site, wide.detach(), flat.detach());
            foreach (var group in groups)
            {
                group.Watch(site, group.Own(mean), group.Own(variance), ranges?[site.Index]);
            }
        }

        Tensor[] steps = [.. groups.SelectMany(group => group.NormalizeWithSteps(site, wide))];
        var y = steps.Length == 1 ? steps[0] : cat(steps);
        y = residual is null ? y : y.AddInPlace(residual);
        Fused.Clamp(y, epilogue);
        return y;
    }

    // [B,C] each: the kernels of the CPU take a tenth of the time of torch's variance.
    private unsafe (Tensor Mean, Tensor Variance) InstanceStatistics(NormalizationSite site, Tensor wide, Tensor flat)
    {
        if (wide.device_type != DeviceType.CPU)
        {
            var (variances, means) = flat.var_mean([2L], unbiased: false);
            return (means, variances);
        }

        using var activations = new SiteActivations(site, wide, null, _frames, mayOverwrite: true);
        var (mean, variance) = (new float[_frames * site.Channels], new float[_frames * site.Channels]);
        fixed (float* toMean = mean, toVariance = variance)
        {
            for (var frame = 0; frame < _frames; frame++)
            {
                var at = (long)frame * site.Channels;
                activations.Statistics(frame, toMean + at, toVariance + at);
            }
        }

        long[] shape = [_frames, site.Channels];
        return (tensor(mean, shape), tensor(variance, shape));
    }

    // The rows of this site are not frames of single streams: nothing adapts here, and what is observed is the source.
    private Tensor AtSource(NormalizationSite site, Tensor x, Tensor? residual, Epilogue epilogue)
    {
        var own = parameters[site.Index];
        foreach (var group in groups)
        {
            group.Observation?.At(site, PerFrame(own.Mean, group), PerFrame(own.Variance, group));
        }

        using var wide = x.to_type(ScalarType.Float32);
        return own.Normalize(wide, site.Epsilon, residual, epilogue).to_type(x.dtype);

        static Tensor PerFrame(Tensor statistic, StepGroup group) => statistic.expand(group.Steps, group.Frames, statistic.shape[0]);
    }

    private static Tensor Joined(GroupNormalizer[] normalizers, Func<GroupNormalizer, Tensor> statistic) =>
        normalizers.Length == 1 ? statistic(normalizers[0]) : cat(Array.ConvertAll(normalizers, normalizer => statistic(normalizer)));
}
