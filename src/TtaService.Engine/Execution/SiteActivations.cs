using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>The activations at a site as the kernels read and write them: the one place where a tensor becomes pointers, after its type, channels and rows were checked.</summary>
/// <remarks>Rows are [R,C] or [R,C,...] with R = frames * k, frames outermost; the k rows of a frame are k times its pixels, which then lie channels-last: [frames][k*L][C].
/// With k = 1 a frame may also lie channels-first: [C][L].</remarks>
internal sealed unsafe class SiteActivations : IDisposable
{
    private readonly Tensor? _copy;
    private readonly Tensor? _residualCopy;
    private readonly float* _input;
    private readonly float* _output;
    private readonly float* _residual;
    private readonly int _channels;
    private readonly long _stride;

    /// <param name="site">The site.</param>
    /// <param name="x">Its input, which passed <see cref="Check"/>; not empty, its rows a multiple of the frames.</param>
    /// <param name="residual">Of x's shape and type; null when there is none.</param>
    /// <param name="frames">Frames of the pass.</param>
    /// <param name="mayOverwrite">Whether x's memory may become the output.</param>
    /// <exception cref="PassException">One of the tensors is not what the kernels take.</exception>
    public SiteActivations(NormalizationSite site, Tensor x, Tensor? residual, int frames, bool mayOverwrite)
    {
        var shape = x.shape;
        var rows = shape[0] / frames;
        if (x.dtype != ScalarType.Float32 || x.device_type != DeviceType.CPU || rows * frames != shape[0] || rows == 0)
        {
            throw new PassException($"site '{site.Name}' has an input of {x.dtype} [{string.Join(',', shape)}] for {frames} frames; the kernels take float32 rows, as many "
                + "for each frame");
        }

        if (residual is not null && (residual.dtype != x.dtype || residual.device_type != x.device_type || !residual.shape.AsSpan().SequenceEqual(shape)))
        {
            throw new PassException($"site '{site.Name}' adds {residual.dtype} [{string.Join(',', residual.shape)}] to float32 [{string.Join(',', shape)}]");
        }

        Frames = frames;
        Pixels = checked((int)(x.numel() / frames / site.Channels));
        Spatial = shape.Length > 2 || rows > 1;
        ChannelsLast = rows > 1 || IsChannelsLast(x);
        _channels = site.Channels;
        _stride = (long)Pixels * site.Channels;
        var input = rows == 1 && ChannelsLast ? x : Laid(x, ChannelsLast);
        var aligned = residual is null ? null : Laid(residual, ChannelsLast);
        Output = mayOverwrite || !ReferenceEquals(input, x) ? input : empty_like(input);
        _copy = ReferenceEquals(input, x) || ReferenceEquals(input, Output) ? null : input;
        _residualCopy = ReferenceEquals(aligned, residual) ? null : aligned;
        _input = Pointer(input);
        _output = Pointer(Output);
        _residual = aligned is null ? null : Pointer(aligned);
    }

    /// <summary>Frames of the pass.</summary>
    public int Frames { get; }

    /// <summary>Values per channel and frame.</summary>
    public int Pixels { get; }

    /// <summary>False where a frame has one row of one value a channel: [B,C].</summary>
    public bool Spatial { get; }

    /// <summary>Whether a frame lies as [pixels, C]; as [C, pixels] otherwise.</summary>
    public bool ChannelsLast { get; }

    /// <summary>The normalized tensor, x itself when it may be overwritten.</summary>
    public Tensor Output { get; }

    /// <summary>Fails where the input does not have the site's channels on its second axis.</summary>
    /// <exception cref="PassException">It has not.</exception>
    public static void Check(NormalizationSite site, Tensor x)
    {
        if (x.dim() < 2 || x.shape[1] != site.Channels || !x.is_floating_point())
        {
            throw new PassException(
                $"BatchNormalization '{site.Name}' has parameters for {site.Channels} channels and an input of {x.dtype} [{string.Join(',', x.shape)}]; its second axis "
                    + "must be the channels");
        }
    }

    public float* Input(int frame) => _input + (_stride * InRange(frame));

    public float* Result(int frame) => _output + (_stride * InRange(frame));

    /// <summary>Null when there is no residual.</summary>
    public float* Residual(int frame) => _residual is null ? null : _residual + (_stride * InRange(frame));

    /// <summary>Mean and biased variance of a frame's channels.</summary>
    public void Statistics(int frame, float* mean, float* variance)
    {
        if (ChannelsLast)
        {
            SiteKernels.StatisticsChannelsLast(Input(frame), Pixels, _channels, mean, variance);
        }
        else
        {
            SiteKernels.StatisticsChannelsFirst(Input(frame), Pixels, _channels, mean, variance);
        }
    }

    public void Dispose()
    {
        _copy?.Dispose();
        _residualCopy?.Dispose();
    }

    private int InRange(int frame)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)frame, (uint)Frames);
        return frame;
    }

    private static Tensor Laid(Tensor x, bool channelsLast)
    {
        if (channelsLast ? IsChannelsLast(x) : x.is_contiguous())
        {
            return x;
        }

        if (!channelsLast || x.dim() == 2)
        {
            return x.contiguous();
        }

        // [R,C,a,b] over memory [R,a,b,C].
        var rank = (int)x.dim();
        long[] inwards = [0, .. Enumerable.Range(2, rank - 2).Select(axis => (long)axis), 1];
        long[] outwards = [0, rank - 1, .. Enumerable.Range(1, rank - 2).Select(axis => (long)axis)];
        using var moved = x.permute(inwards);
        using var copied = moved.contiguous();
        return copied.permute(outwards);
    }

    private static bool IsChannelsLast(Tensor x)
    {
        var shape = x.shape;
        var strides = x.stride();
        if (strides[1] != 1)
        {
            return false;
        }

        var expected = shape[1];
        for (var axis = shape.Length - 1; axis >= 2; axis--)
        {
            if (strides[axis] != expected)
            {
                return false;
            }

            expected *= shape[axis];
        }

        return strides[0] == expected;
    }

    private static float* Pointer(Tensor tensor)
    {
        // The storage pointer ignores the offset of a view.
        using var storage = tensor.storage<float>();
        return (float*)storage.data_ptr() + tensor.storage_offset();
    }
}
