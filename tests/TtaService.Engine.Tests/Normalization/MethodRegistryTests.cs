using System.Text.Json.Nodes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Tests.Normalization;

/// <summary>Several registries in one process, what a registry refuses, and the versions of methods in snapshots.</summary>
public sealed class MethodRegistryTests
{
    [Fact]
    public void With_AMethod_LeavesOtherRegistriesWithoutIt()
    {
        var mine = MethodRegistry.BuiltIn.With(Mine());

        Assert.Equal("mine", mine.All[^1].Name);
        Assert.Null(MethodRegistry.BuiltIn.Describe("mine"));
        Assert.Equal(MethodRegistry.BuiltIn.All.Count + 1, mine.All.Count);
        Assert.Equal(0.25f, mine.Settings("mine", new JsonObject { ["rate"] = 0.25 }).Number("rate"));
        AssertSays("the methods are source, ", Assert.Throws<MethodSettingsException>(() => MethodSettings.Create("mine")));
        AssertSays("mine", Assert.Throws<MethodSettingsException>(() => mine.Settings("other")));
        AssertSays("rate must be a number from 0 to 1, not 2", Assert.Throws<MethodSettingsException>(() => mine.Settings("mine", new JsonObject { ["rate"] = 2 })));
        AssertSays("declares no number 'speed'; it declares rate", Assert.Throws<ArgumentException>(() => mine.Settings("mine").Number("speed")));
    }

    [Fact]
    public void With_DefinitionsThatCannotBe_SaysWhatIsWrong()
    {
        AssertRefused("the name 'ema' is taken", Mine() with { Name = "ema" });
        AssertRefused("the name 'mine' is taken", Mine(), Mine());
        AssertRefused("lower-case letters", Mine() with { Name = "My Method" });
        AssertRefused("versions count from 1", Mine() with { Version = 0 });
        AssertRefused("more than one hyperparameter 'sites_first'", Mine(Hyperparameter.Integer("sites_first", 0, 0, 1, "Taken.")));
        AssertRefused("the default of hyperparameter 'rate' must be a number from 1 to 2, not 0", Mine(Hyperparameter.Number("rate", 0, 1, 2, "Out of range.")));
        Assert.Throws<ArgumentException>(() => Hyperparameter.Choice("kind", "None."));

        static void AssertRefused(string why, params MethodDefinition[] definitions) =>
            Assert.Contains(why, Assert.Throws<MethodRegistrationException>(() => MethodRegistry.BuiltIn.With(definitions)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void CreateState_TwoRegistriesInOneProcess_EachModelRunsItsOwn()
    {
        var (one, other) = (MethodRegistry.BuiltIn.With(Mine()), MethodRegistry.BuiltIn.With(Mine() with { Version = 2 }));
        using var first = Load(one);
        using var second = Load(other);

        var frames = TorchFormTests.Frames(new Random(1), 2);
        Assert.Equal(StepStatus.Ok, first.Run([new StreamStep(first.CreateState(one.Settings("mine")), frames)])[0].Status);
        Assert.Equal(StepStatus.Ok, second.Run([new StreamStep(second.CreateState(other.Settings("mine")), frames)])[0].Status);
        Assert.NotEqual(one.Settings("mine"), other.Settings("mine"));
        Assert.Equal(one.Settings("ema"), other.Settings("ema"));
        AssertSays("loaded without this method mine", Assert.Throws<MethodSettingsException>(() => first.CreateState(other.Settings("mine"))));
    }

    [Fact]
    public void Import_OfAnotherVersionOfAMethod_IsRefusedAndOneWithoutAVersionIsTheFirst()
    {
        var (one, two) = (MethodRegistry.BuiltIn.With(Mine()), MethodRegistry.BuiltIn.With(Mine() with { Version = 2 }));
        using var first = Load(one);
        using var second = Load(two);
        var stream = first.CreateState(one.Settings("mine"));
        first.Run([new StreamStep(stream, TorchFormTests.Frames(new Random(1), 2))]);
        var snapshot = first.Export(stream, default);

        Assert.Equal("1", Safetensors.Read(snapshot).Metadata["method_version"]);
        Assert.Contains("version 1 of method mine, here runs version 2", Assert.Throws<SnapshotException>(() => second.Import(snapshot)).Message, StringComparison.Ordinal);
        var old = Safetensors.Read(snapshot).Metadata.Where(pair => pair.Key != "method_version").ToDictionary();
        var withoutVersion = Safetensors.Write(old, stream.Runtime!.Layout.Tensors, stream.Runtime.Arena.Read(stream.Row));
        Assert.Equal(1, first.Import(withoutVersion).Steps);
        Assert.Contains("version 1 of method mine", Assert.Throws<SnapshotException>(() => second.MethodOf(withoutVersion)).Message, StringComparison.Ordinal);
    }

    private static void AssertSays(string words, Exception thrown) => Assert.Contains(words, thrown.Message, StringComparison.Ordinal);

    private static AdaptiveModel Load(MethodRegistry methods) => AdaptiveModel.Load(TorchFormTests.Model, new AdaptiveModelOptions { Methods = methods });

    private static MethodDefinition Mine(Hyperparameter? hyperparameter = null) =>
        new("mine", "A test's.", "nobody", [hyperparameter ?? Hyperparameter.Number("rate", 0.5, 0, 1, "A rate.")], settings => new Plain(settings.Number("rate")));

    private sealed class Plain(float rate) : INormalizationMethod
    {
        public IReadOnlyList<StateTensor> StateAt(NormalizationSite site) => [new("mine_mean", [site.Channels])];

        public void Initialize(NormalizationSite site, SiteSeed seed, Span<float> state) => site.Mean.CopyTo(state);

        public (Tensor Mean, Tensor Variance) Forward(SiteTensors steps)
        {
            var mean = SiteTensors.Mix(steps.StateAt(0, 1, steps.Channels), steps.BatchStatistics(unbiased: false).Mean, rate);
            steps.Propose(0, 1, steps.Channels, mean);
            return (mean, steps.SourceVariance);
        }
    }
}
