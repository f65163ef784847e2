using TtaService.Engine.Execution;

namespace TtaService.Serving.Streams;

/// <summary>Puts the frames of joined steps one behind the other.</summary>
internal static class JoinedFrames
{
    /// <summary>True when both hold frames of one shape and kind.</summary>
    public static bool Match(FrameBlock first, FrameBlock next) =>
        (first.Channels, first.Height, first.Width, first.Pixels.IsEmpty) == (next.Channels, next.Height, next.Width, next.Pixels.IsEmpty);

    public static FrameBlock Join(List<QueuedStep> steps)
    {
        var first = steps[0].Decoded!.Block;
        if (steps.Count == 1)
        {
            return first;
        }

        var blocks = steps.ConvertAll(step => step.Decoded!.Block);
        var count = blocks.Sum(block => block.Count);
        return first.Pixels.IsEmpty
            ? FrameBlock.FromValues(Concatenate(blocks.ConvertAll(block => block.Values)), count, first.Channels, first.Height, first.Width)
            : FrameBlock.FromPixels(Concatenate(blocks.ConvertAll(block => block.Pixels)), count, first.Channels, first.Height, first.Width);
    }

    private static T[] Concatenate<T>(List<ReadOnlyMemory<T>> parts)
    {
        var whole = new T[parts.Sum(part => part.Length)];
        var filled = 0;
        foreach (var part in parts)
        {
            part.CopyTo(whole.AsMemory(filled));
            filled += part.Length;
        }

        return whole;
    }
}
