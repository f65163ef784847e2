using Google.Protobuf;
using TtaService.Engine;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Inference;

/// <summary>The frames in a request's only input.</summary>
internal static class FrameInput
{
    private const int PixelRank = 4;

    /// <summary>Reads BYTES [N] or [N,1] as JPEG, PNG or WebP files, UINT8 [N,H,W,3] or [N,H,W,1] as pixels, and FP32 [N,C,H,W] as values that are preprocessed already.</summary>
    /// <exception cref="FailureException">It is nothing of these.</exception>
    public static IReadOnlyList<Frame> Read(InferenceModelDescription model, InferenceRequest request)
    {
        if (request.Inputs.Count != model.Inputs.Count)
        {
            throw Wrong(model, $"expected {model.Inputs.Count} inputs but got {request.Inputs.Count} inputs");
        }

        var input = request.Inputs[0];
        var wanted = model.Inputs[0];
        if (input.Name != wanted.Name)
        {
            throw Wrong(model, $"unexpected inference input '{ForeignText.Clip(input.Name)}', it is called '{wanted.Name}'");
        }

        return input.Datatype switch
        {
            Datatype.Bytes when input.Shape.Count is 1 || (input.Shape.Count == 2 && input.Shape[1] == 1) =>
                [.. input.Texts().Select(file => new Frame { Encoded = UnsafeByteOperations.UnsafeWrap(file) })],
            Datatype.Uint8 when input.Shape.Count == PixelRank && input.Shape[3] is 1 or 3 => Parts(input, pixels => new Frame
            {
                Raw = new RawImage
                {
                    Height = (int)input.Shape[1],
                    Width = (int)input.Shape[2],
                    Format = input.Shape[3] == 3 ? RawImage.Types.Format.Rgb8 : RawImage.Types.Format.Gray8,
                    Data = UnsafeByteOperations.UnsafeWrap(pixels),
                },
            }),
            Datatype.Fp32 when input.Shape.Count == PixelRank => Parts(input, values => new Frame
            {
                Tensor = new FloatTensor { Shape = { input.Shape.Skip(1).Select(extent => (int)extent) }, Data = UnsafeByteOperations.UnsafeWrap(values) },
            }),
            _ => throw Wrong(model, $"unexpected shape or data-type of input '{wanted.Name}': {input.Datatype.Name()} [{string.Join(',', input.Shape)}]; send BYTES [N] of JPEG, PNG or WebP files, UINT8 [N,H,W,3] or [N,H,W,1] of pixels, or FP32 [{string.Join(',', wanted.Shape)}] of preprocessed values"),
        };
    }

    private static Frame[] Parts(Tensor input, Func<ReadOnlyMemory<byte>, Frame> read)
    {
        var frames = (int)input.Shape[0];
        var bytes = frames == 0 ? 0 : input.Data.Length / frames;
        return [.. Enumerable.Range(0, frames).Select(i => read(input.Data.Slice(i * bytes, bytes)))];
    }

    private static FailureException Wrong(InferenceModelDescription model, string what) => new(InferenceErrors.WrongInputs(model.Name, what));
}
