using Google.Protobuf;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>Boxes, class maps and vectors put on the wire.</summary>
internal static class FoundReplies
{
    public static void Fill(FramePrediction prediction, FrameAnswer found)
    {
        (prediction.Width, prediction.Height) = (found.Width, found.Height);
        prediction.Boxes.AddRange(found.Boxes.Select(ToWire));
        prediction.Embedding.AddRange(found.Embedding);
        if (found.Mask is { } mask)
        {
            prediction.Segmentation = ToWire(mask);
        }
    }

    private static DetectedBox ToWire(BoxAnswer box)
    {
        var wire = new DetectedBox { X1 = box.X1, Y1 = box.Y1, X2 = box.X2, Y2 = box.Y2, Index = box.Class, Label = box.Label, Score = box.Score };
        wire.Points.AddRange(box.Points.Select(point => new DetectedPoint { X = point.X, Y = point.Y, Score = point.Score }));
        return wire;
    }

    private static Segmentation ToWire(MaskAnswer mask)
    {
        var wire = new Segmentation();
        wire.Shares.AddRange(mask.Shares.Select(Replies.ToWire));
        if (mask.Png is { } png)
        {
            // Nobody writes to it any more.
            wire.Png = UnsafeByteOperations.UnsafeWrap(png);
        }
        else if (mask is { RunClasses: { } classes, RunLengths: { } lengths })
        {
            wire.Runs = new RunLengths();
            wire.Runs.Classes.AddRange(classes);
            wire.Runs.Lengths.AddRange(lengths);
        }

        return wire;
    }
}
