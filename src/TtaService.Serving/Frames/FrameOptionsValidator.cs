using Microsoft.Extensions.Options;

namespace TtaService.Serving.Frames;

/// <summary>Checks that what is asked of the decoder is something that it can do.</summary>
internal sealed class FrameOptionsValidator : IValidateOptions<FrameOptions>
{
    public ValidateOptionsResult Validate(string? name, FrameOptions options) => options is { FastDecode: true, Decoder: FrameLibrary.ImageSharp }
        ? ValidateOptionsResult.Fail("Frames:FastDecode is true, but Frames:Decoder=imagesharp decodes at full size only; "
            + "set Frames:Decoder to skia, or Frames:FastDecode to false")
        : ValidateOptionsResult.Success;
}
