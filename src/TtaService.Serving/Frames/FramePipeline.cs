using System.Buffers;
using SkiaSharp;
using TtaService.Engine.Answers;

namespace TtaService.Serving.Frames;

/// <summary>Turns one frame of a client into the model's pixels: decode, colour channels, resize, centre crop, [C,H,W]. Thread-safe.</summary>
internal sealed class FramePipeline(Preprocessing preprocessing, FrameOptions limits)
{
    public int Channels => preprocessing.Channels == ColorChannels.Grey ? 1 : 3;

    public int Height => preprocessing.Crop.Height;

    public int Width => preprocessing.Crop.Width;

    /// <summary>Bytes of one preprocessed frame.</summary>
    public long FrameBytes => (long)Channels * Height * Width;

    /// <summary>What decoding a file takes, in source pixels times scans, or bytes where there are more; 1 for one that is refused.</summary>
    public long CostOf(ReadOnlySpan<byte> encoded)
    {
        try
        {
            return Math.Max(FrameHeader.Read(encoded, limits).Cost, encoded.Length);
        }
        catch (FrameException)
        {
            return 1;
        }
    }

    /// <inheritdoc cref="DecodeEncoded(ReadOnlySpan{byte}, Span{byte}, out FrameView)"/>
    public bool DecodeEncoded(ReadOnlySpan<byte> encoded, Span<byte> chw) => DecodeEncoded(encoded, chw, out _);

    /// <summary>A JPEG, PNG or WebP file.</summary>
    /// <param name="encoded">The whole file.</param>
    /// <param name="chw">[C,H,W], <see cref="FrameBytes"/> long.</param>
    /// <param name="view">How the file's picture lies in the model's.</param>
    /// <returns>False for a damaged picture that is to be answered all the same (<see cref="FrameOptions.Damaged"/>).</returns>
    /// <exception cref="FrameException">The frame is not taken.</exception>
    public bool DecodeEncoded(ReadOnlySpan<byte> encoded, Span<byte> chw, out FrameView view)
    {
        using var image = FrameDecoder.Decode(encoded, limits, limits.FastDecode ? preprocessing.Resized : null, preprocessing.ApplyExif);
        if (preprocessing.ApplyExif && image.Orientation != SKEncodedOrigin.TopLeft)
        {
            using var upright = Orientation.Apply(image);
            Preprocess(upright.Pixels, upright.Width, upright.Height, upright.Source, chw);
            view = new FrameView(Place(upright.Source), image.Orientation);
        }
        else
        {
            Preprocess(image.Pixels, image.Width, image.Height, image.Source, chw);
            view = new FrameView(Place(image.Source));
        }

        return image.Damage is null;
    }

    /// <summary>Uncompressed pixels.</summary>
    /// <param name="pixels">Rows from top to bottom, at least stride * (height - 1) + width * channels bytes.</param>
    /// <param name="width">Pixels in a row.</param>
    /// <param name="height">Rows.</param>
    /// <param name="stride">Bytes from one row to the next; 0 for packed rows.</param>
    /// <param name="channels">1 or 3 (red, green, blue).</param>
    /// <param name="chw">[C,H,W], <see cref="FrameBytes"/> long.</param>
    /// <exception cref="FrameException">The frame is past a limit, or its numbers and its bytes contradict each other.</exception>
    public void DecodeRaw(ReadOnlySpan<byte> pixels, int width, int height, int stride, int channels, Span<byte> chw)
    {
        if (width < 1 || height < 1)
        {
            throw WrongSize(pixels.Length, width, height, stride, channels);
        }

        // The limits come first: within them the products below do not overflow.
        FrameHeader.Check(width, height, limits);
        var packed = width * channels;
        if ((stride != 0 && stride < packed) || pixels.Length < ((long)(stride == 0 ? packed : stride) * (height - 1)) + packed)
        {
            throw WrongSize(pixels.Length, width, height, stride, channels);
        }

        stride = stride == 0 ? packed : stride;
        var rented = ArrayPool<byte>.Shared.Rent(4 * width * height);
        try
        {
            var rgba = rented.AsSpan(0, 4 * width * height);
            for (var y = 0; y < height; y++)
            {
                var from = pixels.Slice(y * stride, packed);
                var to = rgba.Slice(4 * y * width, 4 * width);
                for (var x = 0; x < width; x++)
                {
                    var pixel = from.Slice(x * channels, channels);
                    to[4 * x] = pixel[0];
                    to[(4 * x) + 1] = pixel[channels / 2];
                    to[(4 * x) + 2] = pixel[channels - 1];
                }
            }

            Preprocess(rgba, width, height, (width, height), chw);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    /// <summary>How an upright picture of this size lies in the model's: undoes what <see cref="Preprocessing"/> does to it.</summary>
    public FramePlacement Place((int Width, int Height) source)
    {
        var (height, width) = preprocessing.Resized(source.Height, source.Width);
        var (left, top) = preprocessing.Letterbox is { } letterbox ? Corner(letterbox, width, height) : (-CropStart(width, Width), -CropStart(height, Height));
        return new FramePlacement(source.Width, source.Height, (double)width / source.Width, (double)height / source.Height, left, top);
    }

    // Half a pixel goes to the right and to the bottom, as ultralytics' LetterBox has it.
    private (int Left, int Top) Corner(Letterbox letterbox, int innerWidth, int innerHeight) =>
        letterbox.TopLeft ? (0, 0) : ((Width - innerWidth) / 2, (Height - innerHeight) / 2);

    // torchvision's CenterCrop rounds halves to even.
    private static int CropStart(int resized, int crop) => (int)Math.Round((resized - crop) / 2.0);

    private static FrameException WrongSize(int bytes, int width, int height, int stride, int channels) => new(
        "RAW_SIZE_WRONG",
        $"a raw image of {width}x{height} with {channels} bytes a pixel and stride {stride} has {bytes} bytes; "
            + $"width and height are at least 1, the stride at least width * {channels} (0 for that), the data at least stride * (height - 1) + width * {channels}");

    private void Preprocess(Span<byte> rgba, int width, int height, (int Width, int Height) source, Span<byte> chw)
    {
        var depth = 4;
        if (preprocessing.Channels == ColorChannels.Grey)
        {
            ToGrey(rgba);
            rgba = rgba[..(width * height)];
            depth = 1;
        }

        var (resizedHeight, resizedWidth) = preprocessing.Resized(source.Height, source.Width);
        if (preprocessing.Letterbox is { } letterbox)
        {
            Frame(letterbox, rgba, width, height, depth, resizedWidth, resizedHeight, chw);
            return;
        }

        if (resizedHeight < Height || resizedWidth < Width)
        {
            throw new FrameException(
                "FRAME_TOO_SMALL",
                $"the frame is {source.Width}x{source.Height} pixels, {resizedWidth}x{resizedHeight} when resized, and the model takes the centre {Width}x{Height}; "
                    + "send a larger frame");
        }

        var part = new PillowResampler.Part(CropStart(resizedWidth, Width), CropStart(resizedHeight, Height), Width, Height);
        var rented = ArrayPool<byte>.Shared.Rent(depth * Width * Height);
        try
        {
            var pixels = rented.AsSpan(0, depth * Width * Height);
            PillowResampler.Resize(rgba, width, height, depth, resizedWidth, resizedHeight, part, preprocessing.Interpolation, pixels);
            ToPlanes(pixels, depth, chw);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(rented);
        }
    }

    // The whole picture, in bars of a colour.
    private void Frame(Letterbox letterbox, ReadOnlySpan<byte> rgba, int width, int height, int depth, int innerWidth, int innerHeight, Span<byte> chw)
    {
        var (left, top) = Corner(letterbox, innerWidth, innerHeight);
        var whole = ArrayPool<byte>.Shared.Rent(depth * Width * Height);
        var inner = ArrayPool<byte>.Shared.Rent(depth * innerWidth * innerHeight);
        try
        {
            var pixels = whole.AsSpan(0, depth * Width * Height);
            Span<byte> colour = [letterbox.Red, letterbox.Green, letterbox.Blue, byte.MaxValue];
            if (depth == 1)
            {
                pixels.Fill(Grey(letterbox.Red, letterbox.Green, letterbox.Blue));
            }
            else
            {
                for (var at = 0; at < pixels.Length; at += depth)
                {
                    colour.CopyTo(pixels[at..]);
                }
            }

            PillowResampler.Resize(
                rgba,
                width,
                height,
                depth,
                innerWidth,
                innerHeight,
                new PillowResampler.Part(0, 0, innerWidth, innerHeight),
                preprocessing.Interpolation,
                inner.AsSpan(0, depth * innerWidth * innerHeight));
            for (var y = 0; y < innerHeight; y++)
            {
                inner.AsSpan(y * innerWidth * depth, innerWidth * depth).CopyTo(pixels[((((top + y) * Width) + left) * depth)..]);
            }

            ToPlanes(pixels, depth, chw);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(whole);
            ArrayPool<byte>.Shared.Return(inner);
        }
    }

    // Pillow's convert("L"), in place.
    private static void ToGrey(Span<byte> rgba)
    {
        for (var i = 0; i < rgba.Length / 4; i++)
        {
            var pixel = rgba.Slice(4 * i, 3);
            rgba[i] = Grey(pixel[0], pixel[1], pixel[2]);
        }
    }

    private static byte Grey(int red, int green, int blue) => (byte)(((red * 19595) + (green * 38470) + (blue * 7471) + 0x8000) >> 16);

    private void ToPlanes(ReadOnlySpan<byte> pixels, int depth, Span<byte> chw)
    {
        if (depth == 1)
        {
            pixels.CopyTo(chw);
            return;
        }

        var plane = Height * Width;
        for (var c = 0; c < 3; c++)
        {
            var target = chw.Slice((preprocessing.Channels == ColorChannels.Bgr ? 2 - c : c) * plane, plane);
            for (var i = 0; i < plane; i++)
            {
                target[i] = pixels[(4 * i) + c];
            }
        }
    }
}
