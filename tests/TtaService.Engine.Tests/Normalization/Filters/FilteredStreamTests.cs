using System.Text.Json.Nodes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using TtaService.Engine.Tests.Evaluation;
using TtaService.Engine.Tests.Normalization.Auto;

namespace TtaService.Engine.Tests.Normalization.Filters;

/// <summary>A prediction filter's state is part of its stream's, whatever normalizes the frames in front of it.</summary>
public sealed class FilteredStreamTests : IDisposable
{
    private const int Scores = 0;
    private static readonly string[] Names = ["corrupted", "clean", "changing", "independent"];

    private readonly AdaptiveModel _model = Prototype.Load();

    [Theory]
    [InlineData("source+temporal", false)]
    [InlineData("source+lame", false)]
    [InlineData("tbr+lame", false)]
    [InlineData("unmix_tns+temporal", true)]
    [InlineData("ema+lame", true)]
    [InlineData("tent{min_frames=1}+lame", false)]
    public void Run_ManyStreamsInABatch_AnswersEachAsAlone(string expression, bool onDevice)
    {
        using var model = Prototype.Load(onDevice: onDevice);
        var alone = Names.Select(_ => Create(model, expression)).ToList();
        var together = Names.Select(_ => Create(model, expression)).ToList();
        StreamState[] others = [Create(model, "auto"), Create(model, "source"), Create(model, "tbr+temporal")];
        for (var round = 0; round < 4; round++)
        {
            int[] sizes = [1 + (round % 3), 4, 1, 16];
            var steps = Names.Select((name, i) => Prototype.Frames(name, round * sizes[i], sizes[i])).ToList();
            var frozen = round == 3;
            List<StreamStep> batch = [.. together.Zip(steps, (state, frames) => new StreamStep(state, frames, frozen)), .. others.Select(other => new StreamStep(other, steps[0]))];
            var results = model.Run(batch);
            Assert.All(results, result => Assert.Single(result.Outputs));
            for (var i = 0; i < Names.Length; i++)
            {
                var expected = model.Run([new StreamStep(alone[i], steps[i], frozen)])[0];
                Assert.True(expected.Status == StepStatus.Ok, expected.Message);
                Close.Assert(expected.Outputs[Scores].Values, results[i].Outputs[Scores].Values, 2e-3, $"{Names[i]} round {round}");
                Close.Assert(expected.Unfiltered!.Values, results[i].Unfiltered!.Values, 1e-3, $"{Names[i]} round {round}, unfiltered");
            }
        }
    }

    [Theory]
    [InlineData("tbr", "tbr+temporal")]
    [InlineData("tbr", "tbr+lame")]
    [InlineData("source", "source+temporal")]
    public void Run_WithAFilter_SaysWhatTheMethodAloneWouldHaveAnswered(string bare, string filtered)
    {
        var (one, other) = (Create(_model, bare), Create(_model, filtered));
        var differs = false;
        for (var at = 0; at < 64; at += 16)
        {
            var frames = Prototype.Frames("corrupted", at, 16);
            var (expected, actual) = (_model.Run([new StreamStep(one, frames)])[0], _model.Run([new StreamStep(other, frames)])[0]);
            // Both see the graph alike, but for source, whose folded form answers.
            Close.Assert(expected.Outputs[Scores].Values, actual.Unfiltered?.Values ?? actual.Outputs[Scores].Values, 1e-4, $"{filtered} at {at}");
            differs |= actual.Unfiltered is { } raw && !raw.Values.SequenceEqual(actual.Outputs[Scores].Values);
        }

        Assert.True(differs);
    }

    [Fact]
    public void Run_FrozenStep_AnswersAndChangesNothing()
    {
        var state = Create(_model, "tbr+temporal");
        Step(state, 0, 16);
        var before = _model.Export(state, default);
        var frozen = _model.Run([new StreamStep(state, Prototype.Frames("corrupted", 16, 16), Freeze: true)])[0];
        Assert.Equal(before, _model.Export(state, default));
        Assert.Equal(frozen.Outputs[Scores].Values, Step(state, 16, 16));
        Assert.NotEqual(before, _model.Export(state, default));
    }

    [Fact]
    public void Run_MarkedFrames_AreAnsweredAndTeachTheFilterNothing()
    {
        var (marked, plain) = (Create(_model, "tbr+lame"), Create(_model, "tbr+lame"));
        var frames = Prototype.Frames("corrupted", 0, 8);
        var result = _model.Run([new StreamStep(marked, frames)
        {
            NotLearned = [.. Enumerable.Range(0, 8).Select(frame => frame is 2 or 5 ? NotLearnedReason.Blank : NotLearnedReason.None)],
        }])[0];
        _model.Run([new StreamStep(plain, frames.Copy([0, 1, 3, 4, 6, 7]))]);

        Assert.Equal((StepStatus.Ok, 8, 8), (result.Status, result.Outputs[Scores].Shape[0], result.Unfiltered!.Shape[0]));
        Assert.Equal(_model.Export(plain, default), _model.Export(marked, default));
    }

    [Theory]
    [InlineData("tbr+temporal")]
    [InlineData("unmix_tns+lame")]
    public void Import_OfASnapshot_ContinuesAsTheStream(string expression)
    {
        var (state, evicted) = (Create(_model, expression), Create(_model, expression));
        Step(state, 0, 20);
        Step(evicted, 0, 20);
        var fork = _model.Import(_model.Export(state, default));
        Assert.Equal(state.Method, fork.Method);
        _model.Restore(evicted, _model.Evict(evicted, default));
        using var device = Prototype.Load(onDevice: true);
        var moved = device.Import(_model.Export(state, default));

        var expected = Step(state, 20, 3);
        Assert.Equal(expected, Step(fork, 20, 3));
        Assert.Equal(expected, Step(evicted, 20, 3));
        Close.Assert(expected, device.Run([new StreamStep(moved, Prototype.Frames("corrupted", 20, 3))])[0].Outputs[Scores].Values, 1e-3, "on the other path");

        _model.Reset(fork);
        Assert.Equal(Step(Create(_model, expression), 0, 4), Step(fork, 0, 4));
    }

    [Fact]
    public void Import_OfASnapshotWithoutTheFiltersState_SaysWhatItLacks()
    {
        var tbr = Create(_model, "tbr");
        var snapshot = _model.Export(tbr, default);
        var content = Safetensors.Read(snapshot);
        var metadata = new Dictionary<string, string>(content.Metadata)
        {
            ["method"] = "tbr+temporal",
            ["hyperparameters"] = MethodSettings.Create("tbr+temporal").Hyperparameters.ToJsonString(),
        };
        var forged = Safetensors.Write(metadata, tbr.Runtime!.Layout.Tensors, tbr.Runtime.Arena.Read(tbr.Row));

        Assert.Contains("lacks tensor 'filter.frames'", Assert.Throws<SnapshotException>(() => _model.Import(forged)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void StateBytes_AreWhatAStreamTakesAndGivesBack()
    {
        var (tbr, lame) = (MethodSettings.Create("tbr"), MethodSettings.Create("tbr+lame", new JsonObject { ["lame_memory"] = 100 }));
        var before = _model.ResidentBytes;
        var state = _model.CreateState(lame);

        Assert.Equal(before + _model.StateBytes(lame), _model.ResidentBytes);
        Assert.InRange(_model.StateBytes(lame) - _model.StateBytes(tbr), 100 * sizeof(float) * (_model.Pass.Features + 10), long.MaxValue);
        _model.Release(state);
        Assert.Equal(before, _model.ResidentBytes);
    }

    [Fact]
    public void Features_AreWhatTheClassifierReads()
    {
        var (graph, _, _) = OnnxReader.Read(Repository.Model);
        var gemm = graph.Graph.Node.Single(node => node.OpType == "Gemm");
        float[] Weights(string name) => System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(
            graph.Graph.Initializer.Single(tensor => tensor.Name == name).RawData.Span).ToArray();
        var (w, b) = (Weights(gemm.Input[1]), Weights(gemm.Input[2]));
        _model.Pass.ShowsFeatures = true;
        var outputs = _model.RunSource([Prototype.Frames("corrupted", 0, 3)]);

        var features = outputs[^1];
        Assert.Equal([3, _model.Pass.Features], features.Shape);
        float[] expected = [.. Enumerable.Range(0, 3).SelectMany(frame => b.Select((bias, k) =>
            bias + Enumerable.Range(0, _model.Pass.Features).Sum(d => w[(k * _model.Pass.Features) + d] * features.Values[(frame * _model.Pass.Features) + d])))];
        Close.Assert(expected, outputs[0].Values, 1e-3, "logits");
    }

    [Theory]
    [InlineData("lame", "needs a normalization method in front of it: source+lame")]
    [InlineData("temporal+tbr", "begins with temporal, a prediction filter")]
    [InlineData("ema+tbr", "two normalization methods, ema and tbr; keep one: one of source, ")]
    [InlineData("tbr+lame+temporal", "more than one prediction filter, lame and temporal; keep one: one of source, ")]
    [InlineData("tbr+lame+lame", "more than one prediction filter, lame and lame")]
    [InlineData("tbr+lome", "a part 'lome', which does not exist; one of source, ")]
    [InlineData("auto+temporal", "behind auto, which filters predictions itself; write auto")]
    [InlineData("tbr+", "a part '', which does not exist")]
    [InlineData("nothing", "does not exist; the methods are source, ")]
    public void Settings_PartsThatDoNotFit_SayWhichDo(string expression, string said) =>
        Assert.Contains(said, Assert.Throws<MethodSettingsException>(() => MethodSettings.Create(expression)).Message, StringComparison.Ordinal);

    [Fact]
    public void Settings_OfParts_HaveTheHyperparametersOfBoth()
    {
        var settings = MethodSettings.Create("unmix_tns+lame", new JsonObject { ["components"] = 4, ["lame_neighbors"] = 3 });

        Assert.Equal((4, 3), (settings.Integer("components"), settings.Integer("lame_neighbors")));
        Assert.Equal("unmix_tns", settings.NormalizationName);
        Assert.Same(MethodRegistry.BuiltIn.Find("unmix_tns+lame"), settings.Definition);
        string Refused(string expression, int neighbors) =>
            Assert.Throws<MethodSettingsException>(() => MethodSettings.Create(expression, new JsonObject { ["lame_neighbors"] = neighbors })).Message;
        Assert.Contains("lame_neighbors must be", Refused("tbr+lame", 0), StringComparison.Ordinal);
        Assert.Contains("is not a hyperparameter of tbr+temporal", Refused("tbr+temporal", 3), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("segmenter_opset17.onnx", "temporal", "answers none")]
    [InlineData("detector_opset17.onnx", "lame", "answers none")]
    public void WhyUnavailable_OfAModelWithoutClasses_SaysWhatToUse(string file, string filter, string said)
    {
        using var model = AdaptiveModel.Load(Path.Combine(AppContext.BaseDirectory, "Data", "onnx", file));

        Assert.Contains(said, model.WhyUnavailable(MethodSettings.Create($"ema+{filter}")), StringComparison.Ordinal);
        Assert.Null(model.WhyUnavailable(MethodSettings.Create("ema")));
    }

    public void Dispose() => _model.Dispose();

    internal static StreamState Create(AdaptiveModel model, string expression)
    {
        // unmix_tns+lame, or tent{min_frames=1}+lame with one hyperparameter that is a number or a word.
        var (open, close) = (expression.IndexOf('{', StringComparison.Ordinal), expression.IndexOf('}', StringComparison.Ordinal));
        if (open < 0)
        {
            return model.CreateState(MethodSettings.Create(expression), seed: 1);
        }

        var given = expression[(open + 1)..close].Split('=');
        JsonNode value = int.TryParse(given[1], out var number) ? number : given[1];
        return model.CreateState(MethodSettings.Create(expression[..open] + expression[(close + 1)..], new JsonObject { [given[0]] = value }), seed: 1);
    }

    private float[] Step(StreamState state, int first, int count)
    {
        var result = _model.Run([new StreamStep(state, Prototype.Frames("corrupted", first, count))])[0];
        Assert.True(result.Status == StepStatus.Ok, result.Message);
        return result.Outputs[Scores].Values;
    }
}
