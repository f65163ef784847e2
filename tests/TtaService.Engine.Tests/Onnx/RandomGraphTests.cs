using System.Globalization;
using System.Text.Json.Nodes;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Tests.Onnx;

/// <summary>Random small graphs: every way through the engine answers each frame as ONNX Runtime answers it alone, whatever else is in the batch.</summary>
/// <remarks>TTA_RANDOM_GRAPHS sets how many.</remarks>
public sealed class RandomGraphTests : IDisposable
{
    private const int DefaultGraphs = 150;
    private const int Chunks = 5;
    private const double Tolerance = 1e-4;

    private static readonly int Graphs = int.Parse(Environment.GetEnvironmentVariable("TTA_RANDOM_GRAPHS") ?? $"{DefaultGraphs}", CultureInfo.InvariantCulture);
    private static readonly MethodSettings Source = MethodSettings.Create("source");
    private static readonly MethodSettings AdaptedAtSource = MethodSettings.Create("alpha_bn", new JsonObject { ["test_weight"] = 0.0 });
    private static readonly MethodSettings[] Adapted = [MethodSettings.Create("alpha_bn", new JsonObject { ["test_weight"] = 0.5 }),
        MethodSettings.Create("ema"), MethodSettings.Create("unmix_tns")];

    private readonly string _folder = Directory.CreateTempSubdirectory("tta-graph-").FullName;

    public static TheoryData<int> Chunk { get; } = [.. Enumerable.Range(0, Chunks)];

    [Theory]
    [MemberData(nameof(Chunk))]
    public void Run_EveryPathAndBatch_AnswersEachFrameAsAlone(int chunk)
    {
        var failures = new List<string>();
        for (var seed = chunk; seed < Graphs; seed += Chunks)
        {
            try
            {
                Check(seed);
            }
            catch (Exception e)
            {
                failures.Add($"seed {seed} ({new RandomGraph(seed).Describe()}): {e.Message.Split('\n')[0]}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} graphs of {Graphs / Chunks}:\n{string.Join('\n', failures.Take(20))}");
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Check(int seed)
    {
        var graph = new RandomGraph(seed);
        var model = graph.Model();
        var path = OnnxFiles.Write(_folder, model);
        var random = new Random(seed);
        var frames = Enumerable.Range(0, 3).Select(_ => Frame(random)).ToArray();
        var expected = frames.Select(frame => Reference(model, graph.Batch, frame)).ToArray();
        foreach (var onDevice in new[] { false, true })
        {
            var options = new AdaptiveModelOptions { Threads = 1, UsesTorchOperators = onDevice };
            var way = onDevice ? "device" : "host";
            using (var folded = AdaptiveModel.Load(path, options))
            {
                CheckMethod(folded, Source, frames, expected, $"{way} folded");
                CheckMethod(folded, AdaptedAtSource, frames, expected, $"{way} adapted at source statistics");
                foreach (var method in Adapted)
                {
                    CheckIsolation(folded, method, frames, $"{way} {method.Name}");
                }
            }

            using var observed = AdaptiveModel.Load(path, options with { Observation = new ObservationOptions() });
            CheckMethod(observed, Source, frames, expected, $"{way} observed");

            // Virtual sites at every convolution where one can be, all of them at the source: the identity.
            using var virtually = AdaptiveModel.Load(path, options with { Observation = new ObservationOptions(), ForCalibration = true });
            CheckMethod(virtually, Source, frames, expected, $"{way} with virtual sites");
        }
    }

    // Alone, in one step, and in steps of different streams.
    private static void CheckMethod(AdaptiveModel model, MethodSettings method, float[][] frames, float[][][] expected, string what)
    {
        for (var i = 0; i < frames.Length; i++)
        {
            Equal(expected[i], Run(model, [method], [frames[i]])[0], 0, 1, $"{what}, alone");
        }

        var joined = Run(model, [method], [[.. frames.SelectMany(frame => frame)]])[0];
        var streams = Run(model, [method, method, method], [frames[2], frames[0], frames[1]]);
        for (var i = 0; i < frames.Length; i++)
        {
            Equal(expected[i], joined, i, frames.Length, $"{what}, in one step");
            Equal(expected[i], streams[(i + 1) % 3], 0, 1, $"{what}, beside other streams");
        }
    }

    private static void CheckIsolation(AdaptiveModel model, MethodSettings method, float[][] frames, string what)
    {
        var alone = frames.Select(frame => Run(model, [method], [frame])[0]).ToArray();
        var together = Run(model, [method, method, method], [frames[1], frames[2], frames[0]]);
        for (var i = 0; i < frames.Length; i++)
        {
            Equal([.. alone[i].Select(output => output.Values)], together[(i + 2) % 3], 0, 1, what);
        }
    }

    private static IReadOnlyList<OutputTensor>[] Run(AdaptiveModel model, MethodSettings[] methods, float[][] values)
    {
        var states = Array.ConvertAll(methods, method => model.CreateState(method));
        var results = model.Run(
            [.. states.Select((state, i) => new StreamStep(state, FrameBlock.FromValues(values[i], values[i].Length / FrameLength, 3, RandomGraph.Side, RandomGraph.Side)))]);
        Array.ForEach(states, model.Release);
        return [.. results.Select(result => result.Status == StepStatus.Ok ? result.Outputs : throw new InvalidOperationException($"{result.Status}: {result.Message}"))];
    }

    private static void Equal(float[][] expected, IReadOnlyList<OutputTensor> actual, int frame, int frames, string what)
    {
        for (var i = 0; i < expected.Length; i++)
        {
            Assert.Equal(frames, actual[i].Shape[0]);
            var length = actual[i].Values.Length / frames;
            Close.Assert(expected[i], actual[i].Values.AsSpan(frame * length, length), Tolerance * Math.Max(1e-3, expected[i].Max(Math.Abs)), $"{what}: output {i}");
        }
    }

    private const int FrameLength = 3 * RandomGraph.Side * RandomGraph.Side;

    private static float[] Frame(Random random)
    {
        var (level, contrast) = (random.NextDouble() - 0.5, 0.5 + random.NextDouble());
        return [.. Enumerable.Range(0, FrameLength).Select(_ => (float)(level + (contrast * ((2 * random.NextDouble()) - 1))))];
    }

    // What the model answers to the frame in a pass of its own: as many copies as its batch is fixed to.
    private static float[][] Reference(Engine.Onnx.Wire.ModelProto model, int batch, float[] frame)
    {
        using var options = new SessionOptions { IntraOpNumThreads = 1, LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR };
        using var session = new InferenceSession(model.ToByteArray(), options);
        var copies = Math.Max(1, batch);
        var input = new DenseTensor<float>(Enumerable.Repeat(frame, copies).SelectMany(values => values).ToArray(), [copies, 3, RandomGraph.Side, RandomGraph.Side]);
        using var results = session.Run([NamedOnnxValue.CreateFromTensor("x", input)]);
        return [.. model.Graph.Output.Select(output =>
        {
            var values = results.First(result => result.Name == output.Name).AsTensor<float>().ToArray();
            return values[..(values.Length / copies)];
        })];
    }
}
