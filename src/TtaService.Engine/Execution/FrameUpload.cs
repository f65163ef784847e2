using TorchSharp;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>Brings the frames of a batch to the device in channels-last memory, normalized on the way, in the layout and type that the graph declares.</summary>
/// <remarks>Staged, uint8 pixels travel as they are, from pinned memory, a quarter of the bytes; normalization follows on the device, rounded as on the host.</remarks>
internal sealed class FrameUpload(InputEncoding encoding, Device device, ScalarType precision, bool staged) : IDisposable
{
    private readonly Tensor _factor = PerChannel(encoding.Normalization.Scale ?? encoding.Normalization.Std, encoding.ClipFrames, device);
    private readonly Tensor _term = PerChannel(encoding.Normalization.Offset ?? encoding.Normalization.Mean, encoding.ClipFrames, device);
    private Tensor? _staging;

    /// <summary>The batch's input; belongs to the caller's dispose scope.</summary>
    public Tensor Upload(FrameBlock[] blocks, int frames)
    {
        using var scope = NewDisposeScope();
        var input = !staged || Array.Exists(blocks, block => block.Pixels.IsEmpty)
            ? Normalized(blocks, frames).to(device)
            : Normalized(Transfer(blocks, frames));
        // Channels-last memory is a [B,H,W,C] tensor already.
        var laid = encoding.Layout switch
        {
            InputLayout.Nhwc => input.permute(0, 2, 3, 1),
            // A clip's frames lie one behind another, as more channels.
            InputLayout.Ntchw => Clips(input),
            InputLayout.Ncthw => Clips(input).transpose(1, 2),
            _ => input,
        };
        return laid.to_type(encoding.Integer ?? precision).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        _factor.Dispose();
        _term.Dispose();
        _staging?.Dispose();
    }

    // The host reads the batch's outputs before the next batch is staged, so that the copy has ended by then.
    private unsafe Tensor Transfer(FrameBlock[] blocks, int frames)
    {
        var bytes = blocks.Sum(block => (long)block.Pixels.Length);
        if (_staging is null || _staging.shape[0] < bytes)
        {
            _staging?.Dispose();
            var memory = empty([bytes], ScalarType.Byte);
            _staging = (device.type == DeviceType.CUDA ? memory.pin_memory() : memory).DetachFromDisposeScope();
        }

        using var storage = _staging.storage<byte>();
        var to = (byte*)storage.data_ptr();
        foreach (var block in blocks)
        {
            block.Pixels.Span.CopyTo(new Span<byte>(to, block.Pixels.Length));
            to += block.Pixels.Length;
        }

        return _staging.narrow(0, 0, bytes).view(frames, blocks[0].Channels, blocks[0].Height, blocks[0].Width).to(device, non_blocking: true);
    }

    private Tensor Normalized(Tensor pixels)
    {
        var values = pixels.permute(0, 2, 3, 1).contiguous().to_type(ScalarType.Float32);
        var normalized = encoding.Normalization.Scale is null ? values.DivideInPlace(255).sub_(_term).div_(_factor) : values.mul_(_factor).AddInPlace(_term);
        return normalized.permute(0, 3, 1, 2);
    }

    private unsafe Tensor Normalized(FrameBlock[] blocks, int frames)
    {
        var (channels, height, width) = (blocks[0].Channels, blocks[0].Height, blocks[0].Width);
        var pixels = height * width;
        var nhwc = empty([frames, height, width, channels], ScalarType.Float32);
        using var storage = nhwc.storage<float>();
        var destination = (float*)storage.data_ptr();
        var table = new float[256];
        foreach (var block in blocks)
        {
            for (var c = 0; c < channels; c++)
            {
                if (!block.Pixels.IsEmpty)
                {
                    for (var level = 0; level < table.Length; level++)
                    {
                        table[level] = encoding.Normalization.Apply(level, c % (channels / encoding.ClipFrames));
                    }
                }

                for (var frame = 0; frame < block.Count; frame++)
                {
                    var from = ((frame * channels) + c) * pixels;
                    var to = destination + ((long)frame * pixels * channels) + c;
                    if (!block.Pixels.IsEmpty)
                    {
                        foreach (var level in block.Pixels.Span.Slice(from, pixels))
                        {
                            *to = table[level];
                            to += channels;
                        }
                    }
                    else
                    {
                        foreach (var value in block.Values.Span.Slice(from, pixels))
                        {
                            *to = encoding.Integer is null ? value : Whole(value);
                            to += channels;
                        }
                    }
                }
            }

            destination += (long)block.Count * pixels * channels;
        }

        return nhwc.permute(0, 3, 1, 2);
    }

    // Values of a client for a graph that takes integers: the nearest one that the type has.
    private float Whole(float value) => encoding.Integer == ScalarType.Byte ? Math.Clamp(MathF.Round(value), 0, 255) : MathF.Round(value);

    private Tensor Clips(Tensor input) => input.unflatten(1, [encoding.ClipFrames, -1]);

    private static Tensor PerChannel(float[] values, int times, Device device) =>
        tensor(Enumerable.Repeat(values, times).SelectMany(frame => frame).ToArray(), device: device).DetachFromDisposeScope();
}
