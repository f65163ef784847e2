using System.Text.Json.Nodes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Normalization.Affine;

/// <summary>Affine training against the published rules in PyTorch (Data/tent/export.py): scales, biases and answers after every step.</summary>
public sealed class AffineGoldenTests
{
    private const int Steps = 6;
    private const double Tolerance = 1e-4;

    private static readonly string[] Layers = ["bn1", "bn2", "bn3", "bn4"];

    [Theory]
    [InlineData("adam", "tent", """{"min_frames":1}""", false)]
    [InlineData("adam", "tent", "{}", true)]
    [InlineData("sgd", "tent", """{"optimizer":"sgd","learning_rate":0.05}""", false)]
    [InlineData("rounds", "tent", """{"rounds":2}""", false)]
    [InlineData("rounds", "tent", """{"rounds":2}""", true)]
    [InlineData("mixed", "tent", """{"test_weight":0.3}""", false)]
    [InlineData("eata", "eta", """{"optimizer":"sgd","learning_rate":0.05,"entropy_margin":0.85,"similarity_margin":0.8}""", false)]
    public void Run_GoldenSteps_MovesScalesAndBiasesAsTheReferenceDoes(string golden, string method, string hyperparameters, bool onDevice)
    {
        using var model = Trainable.Load(new AdaptiveModelOptions { UsesTorchOperators = onDevice });
        var state = model.CreateState(MethodSettings.Create(method, (JsonObject)JsonNode.Parse(hyperparameters)!));
        for (var t = 0; t < Steps; t++)
        {
            var result = model.Run([new StreamStep(state, Trainable.Frames(t))])[0];

            Assert.Equal(StepStatus.Ok, result.Status);
            Assert.Equal(t + 1, result.Steps);
            Close.Assert(Trainable.Golden($"{golden}.logits.{t}"), result.Outputs[0].Values, Tolerance, $"{golden}, step {t}: logits");
            var snapshot = model.Export(state, default);
            if (method == "eta")
            {
                Close.Assert(Trainable.Golden($"{golden}.average.{t}"), Trainable.Tensor(snapshot, "stream.average"), Tolerance, $"{golden}, step {t}: average");
            }

            for (var i = 0; i < Layers.Length; i++)
            {
                Close.Assert(Trainable.Golden($"{golden}.{i}.scale.{t}"), Trainable.Tensor(snapshot, $"{Layers[i]}.scale"), Tolerance, $"{golden}, step {t}: scale of {Layers[i]}");
                Close.Assert(Trainable.Golden($"{golden}.{i}.bias.{t}"), Trainable.Tensor(snapshot, $"{Layers[i]}.bias"), Tolerance, $"{golden}, step {t}: bias of {Layers[i]}");
            }
        }
    }
}
