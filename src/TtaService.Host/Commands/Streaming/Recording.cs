using System.Text.Json;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands.Streaming;

/// <summary>Answers and events as JSON lines. Thread-safe.</summary>
internal sealed class Recording : IDisposable
{
    private static readonly JsonSerializerOptions Json = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private readonly Lock _gate = new();
    private readonly StreamWriter _file;
    private readonly TimeProvider _clock;

    /// <exception cref="CommandException">The file can't be written.</exception>
    public Recording(string path, TimeProvider clock)
    {
        _clock = clock;
        try
        {
            _file = new StreamWriter(path, append: true) { AutoFlush = true };
        }
        catch (Exception refused) when (refused is IOException or UnauthorizedAccessException)
        {
            throw new CommandException($"--record {path} can't be written: {refused.Message}");
        }
    }

    public void Write(StreamedStep step) => Write(new
    {
        Time = _clock.GetUtcNow(),
        Sources = step.Frames.Select(frame => frame.Name),
        LatencyMs = Math.Round(step.Took.TotalMilliseconds, 2),
        Sequence = step.Reply?.Sequence ?? step.Error!.Sequence,
        step.Reply?.Step,
        step.Reply?.Replayed,
        Frames = step.Reply?.Predictions.Select(prediction => Labels(prediction.Top)),
        step.Reply?.Filtered,
        Unfiltered = step.Reply is { } answered && answered.Predictions.Any(prediction => prediction.Unfiltered.Count > 0)
            ? answered.Predictions.Select(prediction => Labels(prediction.Unfiltered))
            : null,
        Found = step.Reply is { } reply && reply.Predictions.Any(prediction => prediction.Width > 0) ? reply.Predictions.Select(Found) : null,
        Error = step.Error is { } error ? new { error.Reason, error.Message } : null,
    });

    public void Write(StreamEvent happened) => Write(new { Time = _clock.GetUtcNow(), Event = happened.GetType().Name, Text = happened.ToString() });

    public void Dispose() => _file.Dispose();

    private static IEnumerable<object> Labels(IEnumerable<LabelScore> labels) =>
        labels.Select(label => new { label.Index, label.Label, Probability = Math.Round(label.Probability, 6) });

    private static object Found(FramePrediction found) => new
    {
        found.Width,
        found.Height,
        Boxes = found.Boxes.Select(box => new
        {
            Box = new[] { box.X1, box.Y1, box.X2, box.Y2 },
            box.Index,
            box.Label,
            box.Score,
            Points = box.Points.Select(point => new[] { point.X, point.Y, point.Score }),
        }),
        Shares = found.Segmentation?.Shares.Select(label => new { label.Index, label.Label, Share = Math.Round(label.Probability, 6) }),
        found.Embedding,
    };

    private void Write<T>(T line)
    {
        lock (_gate)
        {
            _file.WriteLine(JsonSerializer.Serialize(line, Json));
        }
    }
}
