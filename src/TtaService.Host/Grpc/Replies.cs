using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.Serving.Telemetry;
using TtaService.V1;
using Method = TtaService.V1.Method;
using Stream = TtaService.V1.Stream;
using WireOrigin = TtaService.V1.StateOrigin;

namespace TtaService.Host.Grpc;

/// <summary>The host's words put on the wire.</summary>
internal static class Replies
{
    public static StreamOpened Opened(OpenedStream opened)
    {
        var stream = opened.Stream;
        var wire = new StreamOpened
        {
            Stream = stream.Name,
            Model = stream.Model,
            Method = ToWire(stream.Method),
            Origin = ToWire(opened.Origin),
            LastSequence = stream.LastSequence,
            Age = AgeOf(stream),
            MaxPendingSteps = opened.MaxPendingSteps,
            MaxFramesPerStep = opened.MaxFramesPerStep,
        };
        wire.Warnings.AddRange(opened.Warnings);
        return wire;
    }

    public static StepReply Step(ulong sequence, StepAnswer answer, Serving.Streams.StateOrigin origin)
    {
        var reply = new StepReply
        {
            Sequence = sequence,
            Step = answer.Steps,
            Age = new StateAge { Steps = answer.Steps, Frames = answer.Frames, Seconds = answer.Age.TotalSeconds },
            Origin = ToWire(origin),
            Replayed = answer.Replayed,
            Method = answer.Method,
            Joined = answer.Joined,
            Notice = answer.Notice ?? string.Empty,
            Timing = new StepTiming
            {
                DecodeMicroseconds = (long)answer.Times.Decode.TotalMicroseconds,
                QueueMicroseconds = (long)answer.Times.Queue.TotalMicroseconds,
                RunMicroseconds = (long)answer.Times.Run.TotalMicroseconds,
                BatchFrames = answer.Times.BatchFrames,
            },
        };
        for (var frame = 0; frame < answer.Predictions.Length; frame++)
        {
            var prediction = new FramePrediction();
            prediction.Top.AddRange(answer.Predictions[frame].Select(ToWire));
            if (frame < answer.Unfiltered.Count)
            {
                prediction.Unfiltered.AddRange(answer.Unfiltered[frame].Select(ToWire));
            }

            if (frame < answer.Found.Count)
            {
                FoundReplies.Fill(prediction, answer.Found[frame]);
            }

            reply.Predictions.Add(prediction);
        }

        reply.Filtered = answer.Filtered;
        reply.RolledBack = answer.RolledBack;
        foreach (var (frame, reason) in answer.NotLearned)
        {
            reply.NotLearned.Add(new NotLearned { Frame = frame, Reason = Label<NotLearnedReason>.Of(reason) });
        }

        foreach (var output in answer.Outputs)
        {
            var raw = new RawOutput { Name = output.Name, Data = LittleEndian(output.Values) };
            raw.Shape.AddRange(output.Shape);
            reply.Outputs.Add(raw);
        }

        return reply;
    }

    public static Stream ToWire(StreamDescription stream)
    {
        var wire = new Stream
        {
            Name = stream.Name,
            Model = stream.Model,
            Method = ToWire(stream.Method),
            Seed = stream.Seed,
            Frozen = stream.Settings.Frozen,
            MaxCoalesce = stream.Settings.MaxCoalesce,
            Pinned = stream.Settings.Pinned,
            Owner = stream.Owner ?? string.Empty,
            Age = AgeOf(stream),
            Origin = ToWire(stream.Origin),
            LastSequence = stream.LastSequence,
            StateBytes = stream.StateBytes,
            Resident = stream.Resident,
            CreateTime = stream.Created.ToTimestamp(),
            UpdateTime = stream.Updated.ToTimestamp(),
            ResetTime = stream.ResetAt.ToTimestamp(),
        };
        foreach (var (name, value) in stream.Settings.Labels)
        {
            wire.Labels[name] = value;
        }

        return wire;
    }

    public static Stream ToWire(StreamSummary listed) => listed switch
    {
        { Here: { } here } => ToWire(here),
        { Stored: { } stored } => new Stream
        {
            Name = listed.Name,
            Model = listed.Model,
            Method = new Method { Name = stored.Method },
            Age = new StateAge { Steps = stored.Steps },
            LastSequence = stored.LastSequence,
            UpdateTime = stored.Saved.ToTimestamp(),
            Owner = stored.Owner ?? string.Empty,
        },
        _ => new Stream { Name = listed.Name, Model = listed.Model },
    };

    public static ListCheckpointsResponse ToWire(IReadOnlyList<KeptCheckpoint> kept)
    {
        var response = new ListCheckpointsResponse();
        response.Checkpoints.AddRange(kept.Select(ToWire));
        return response;
    }

    private static Checkpoint ToWire(KeptCheckpoint checkpoint) => new()
    {
        Number = checkpoint.Number,
        Step = checkpoint.Step,
        Sequence = checkpoint.Sequence,
        SaveTime = checkpoint.Saved.ToTimestamp(),
        Bytes = checkpoint.Bytes,
        Method = checkpoint.Method,
        Owner = checkpoint.Owner,
    };

    public static LabelScore ToWire(ClassScore score) => new() { Index = score.Index, Label = score.Label, Probability = score.Probability };

    public static Method ToWire(MethodSettings method) => new() { Name = method.Name, Hyperparameters = ToWire(method.Hyperparameters) };

    public static Struct ToWire(JsonObject json) => JsonParser.Default.Parse<Struct>(json.ToJsonString(JsonSerializerOptions.Default));

    private static StateAge AgeOf(StreamDescription stream) => new() { Steps = stream.Steps, Frames = stream.Frames, Seconds = stream.Age.TotalSeconds };

    private static WireOrigin ToWire(Serving.Streams.StateOrigin origin) => origin switch
    {
        Serving.Streams.StateOrigin.Fresh => WireOrigin.Fresh,
        Serving.Streams.StateOrigin.Restored => WireOrigin.Restored,
        Serving.Streams.StateOrigin.Continued => WireOrigin.Continued,
        _ => WireOrigin.Reset,
    };

    // libtorch runs on little-endian machines only.
    private static ByteString LittleEndian(float[] values) => ByteString.CopyFrom(MemoryMarshal.AsBytes(values.AsSpan()));
}
