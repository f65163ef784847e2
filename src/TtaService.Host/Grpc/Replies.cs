using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Google.Protobuf.WellKnownTypes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Store;
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
    public static StreamOpened Opened(StreamSession session, Serving.Streams.StateOrigin origin, int maxPendingSteps, int maxFramesPerStep)
    {
        var stream = session.Describe();
        var opened = new StreamOpened
        {
            Stream = stream.Name,
            Model = stream.Model,
            Method = ToWire(stream.Method),
            Origin = ToWire(origin),
            LastSequence = stream.LastSequence,
            Age = AgeOf(stream),
            MaxPendingSteps = maxPendingSteps,
            MaxFramesPerStep = maxFramesPerStep,
        };
        if (NormalizationMethods.All.First(method => method.Name == stream.Method.Name).Warning is { } warning)
        {
            opened.Warnings.Add(warning);
        }

        if (session.Model.Engine.Model.Caution(stream.Method) is { } caution)
        {
            opened.Warnings.Add(caution);
        }

        opened.Warnings.AddRange(session.Tell());
        return opened;
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
            Timing = new StepTiming
            {
                DecodeMicroseconds = (long)answer.Times.Decode.TotalMicroseconds,
                QueueMicroseconds = (long)answer.Times.Queue.TotalMicroseconds,
                RunMicroseconds = (long)answer.Times.Run.TotalMicroseconds,
                BatchFrames = answer.Times.BatchFrames,
            },
        };
        foreach (var classes in answer.Predictions)
        {
            var prediction = new FramePrediction();
            foreach (var score in classes)
            {
                prediction.Top.Add(new LabelScore { Index = score.Index, Label = score.Label, Probability = score.Probability });
            }

            reply.Predictions.Add(prediction);
        }

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

    public static Stream ToWire(ListedStream listed)
    {
        if (listed.Session is { } session)
        {
            return ToWire(session.Describe());
        }

        var latest = listed.Stored!.Latest;
        return new Stream
        {
            Name = listed.Name,
            Model = listed.Model,
            Method = new Method { Name = latest.Method },
            Age = new StateAge { Steps = latest.Step },
            LastSequence = latest.Sequence,
            UpdateTime = latest.Saved.ToTimestamp(),
            Owner = listed.Stored.Owner ?? string.Empty,
        };
    }

    public static Checkpoint ToWire(CheckpointDescription checkpoint) => new()
    {
        Number = checkpoint.Number,
        Step = checkpoint.Step,
        Sequence = checkpoint.Sequence,
        SaveTime = checkpoint.Saved.ToTimestamp(),
        Bytes = checkpoint.Bytes,
        Method = checkpoint.Method,
        Owner = checkpoint.Owner,
    };

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
