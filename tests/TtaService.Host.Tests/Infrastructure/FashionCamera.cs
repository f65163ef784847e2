using Google.Protobuf;
using TtaService.Evaluation;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Sends the demo model's images of the half that did not calibrate it.</summary>
internal static class FashionCamera
{
    public const int FramesAStep = 16;

    private const int FirstImage = 5000;

    private static readonly Lazy<LabelledImages> Images = new(
        () => LabelledImages.Open(Path.Combine(Models, "fashion-mnist", "sample"), _ => throw new InvalidOperationException()));

    /// <summary>The repository with the demo model.</summary>
    public static string Models => Path.Combine(AppContext.BaseDirectory, "models");

    /// <summary>One step of images that follow those of the step before.</summary>
    /// <param name="host">Serves <see cref="Models"/>.</param>
    /// <param name="stream">The stream.</param>
    /// <param name="step">Which images, from 0 on.</param>
    /// <param name="corruption">At severity 5; null for none.</param>
    /// <param name="method">Null for the model's.</param>
    public static async Task SendAsync(TestHost host, string stream, int step, string? corruption = null, string? method = null)
    {
        var request = new InferRequest { Open = new OpenStream { Stream = stream, Method = method is null ? null : new Method { Name = method } }, Step = new StepRequest() };
        for (var i = 0; i < FramesAStep; i++)
        {
            var index = FirstImage + (((step * FramesAStep) + i) % FirstImage);
            var image = Images.Value.Read(index);
            image = corruption is null ? image : Corruption.Find(corruption)!.Apply(image, 5, 0, index);
            request.Step.Frames.Add(new Frame { Raw = new RawImage { Width = 28, Height = 28, Format = RawImage.Types.Format.Gray8, Data = ByteString.CopyFrom(image.Pixels) } });
        }

        Assert.Equal(FramesAStep, (await host.Adaptation.InferAsync(request)).Step.Predictions.Count);
    }
}
