using TtaService.Serving.Frames;

namespace TtaService.Host.Tests.Frames;

/// <summary>What holds for every size and filter; that single results are Pillow's is shown by <see cref="FramePipelineTests"/>.</summary>
public sealed class PillowResamplerTests
{
    public static TheoryData<string> Filters => [.. Enum.GetNames<Interpolation>()];

    [Theory]
    [MemberData(nameof(Filters))]
    public void Resize_APart_EqualsThatPartOfTheWhole(string filter)
    {
        var random = new Random(11);
        for (var trial = 0; trial < 60; trial++)
        {
            var (width, height, channels) = (random.Next(1, 90), random.Next(1, 90), trial % 2 == 0 ? 4 : 1);
            var (toWidth, toHeight) = (random.Next(1, 90), random.Next(1, 90));
            var source = Pixels(random, width * height * channels);
            var part = Inside(random, toWidth, toHeight);

            var whole = Resize(source, width, height, channels, toWidth, toHeight, new PillowResampler.Part(0, 0, toWidth, toHeight), filter);
            var actual = Resize(source, width, height, channels, toWidth, toHeight, part, filter);

            Assert.Equal(Cut(whole, toWidth, channels, part), actual);
        }
    }

    [Theory]
    [MemberData(nameof(Filters))]
    public void Resize_OneOfFourChannels_EqualsItAlone(string filter)
    {
        var random = new Random(12);
        for (var trial = 0; trial < 40; trial++)
        {
            var (width, height, toWidth, toHeight) = (random.Next(1, 70), random.Next(1, 70), random.Next(1, 70), random.Next(1, 70));
            var grey = Pixels(random, width * height);
            var whole = new PillowResampler.Part(0, 0, toWidth, toHeight);

            var alone = Resize(grey, width, height, 1, toWidth, toHeight, whole, filter);
            var four = Resize([.. grey.SelectMany(value => new[] { value, (byte)0, value, (byte)255 })], width, height, 4, toWidth, toHeight, whole, filter);

            Assert.Equal(alone.SelectMany(value => new[] { value, (byte)0, value, (byte)255 }), four);
        }
    }

    private static byte[] Pixels(Random random, int count)
    {
        var pixels = new byte[count];
        random.NextBytes(pixels);
        return pixels;
    }

    private static PillowResampler.Part Inside(Random random, int width, int height)
    {
        var (left, top) = (random.Next(width), random.Next(height));
        return new PillowResampler.Part(left, top, random.Next(1, width - left + 1), random.Next(1, height - top + 1));
    }

    private static byte[] Cut(byte[] whole, int width, int channels, PillowResampler.Part part) =>
        [.. Enumerable.Range(part.Top, part.Height).SelectMany(row => whole.AsSpan(((row * width) + part.Left) * channels, part.Width * channels).ToArray())];

    private static byte[] Resize(byte[] source, int width, int height, int channels, int toWidth, int toHeight, PillowResampler.Part part, string filter)
    {
        var target = new byte[part.Width * part.Height * channels];
        PillowResampler.Resize(source, width, height, channels, toWidth, toHeight, part, Enum.Parse<Interpolation>(filter), target);
        return target;
    }
}
