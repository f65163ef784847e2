using System.Text.Json.Nodes;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Tests.Normalization;

public sealed class MethodSettingsTests
{
    [Theory]
    [InlineData("unmix_tns", """{"components":0}""", "components must be a whole number from 1 to 1024, not 0")]
    [InlineData("unmix_tns", """{"components":2.5}""", "components")]
    [InlineData("unmix_tns", """{"components":"many"}""", "\"many\"")]
    [InlineData("unmix_tns", """{"initial":"random"}""", "one of matched, reference")]
    [InlineData("alpha_bn", """{"test_weight":1.5}""", "test_weight must be a number from 0 to 1, not 1.5")]
    [InlineData("alpha_bn", """{"alpha":0.5}""", "'alpha' is not a hyperparameter of alpha_bn; it has test_weight")]
    [InlineData("alpha_bn", """{"test_weight":null}""", "test_weight")]
    [InlineData("nope", "{}", "the methods are source, tbn")]
    public void Create_BadSettings_SaysWhatIsWrong(string name, string hyperparameters, string expected)
    {
        var error = Assert.Throws<MethodSettingsException>(() => MethodSettings.Create(name, (JsonObject)JsonNode.Parse(hyperparameters)!));
        Assert.Contains(expected, error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Create_SeveralMistakes_ReportsAll()
    {
        var error = Assert.Throws<MethodSettingsException>(() => MethodSettings.Create("unmix_tns", new JsonObject { ["components"] = -1, ["temperature"] = 0, ["x"] = 1 }));
        Assert.Contains("components", error.Message, StringComparison.Ordinal);
        Assert.Contains("temperature", error.Message, StringComparison.Ordinal);
        Assert.Contains("'x'", error.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Equals_SameValuesWrittenDifferently_AreOne()
    {
        Assert.Equal(MethodSettings.Create("ema"), MethodSettings.Create("ema", new JsonObject { ["momentum"] = 5e-2 }));
        Assert.NotEqual(MethodSettings.Create("ema"), MethodSettings.Create("ema", new JsonObject { ["momentum"] = 0.06 }));
    }

    [Fact]
    public void All_EveryMethod_CanBeMadeWithItsDefaults()
    {
        Assert.Equal(12, MethodRegistry.BuiltIn.All.Count);
        Assert.All(MethodRegistry.BuiltIn.All, method => Assert.Equal(method.Hyperparameters.Count, MethodSettings.Create(method.Name).Hyperparameters.Count));
    }

    [Theory]
    [InlineData(0, "*", true, true)]
    [InlineData(1, "*", true, false)]
    [InlineData(0, "layer2.*", false, true)]
    [InlineData(0, "bn1, layer?.0.bn1", true, true)]
    public void SiteFilter_FirstAndPattern_SelectSites(int first, string pattern, bool selectsFirst, bool selectsSecond)
    {
        var filter = new SiteFilter(MethodSettings.Create("tbn", new JsonObject { ["sites_first"] = first, ["sites_pattern"] = pattern }));
        Assert.Equal(selectsFirst, filter.Selects(new NormalizationSite(0, "bn1", 1e-5f, 0.1f, [1], [0], [0], [1])));
        Assert.Equal(selectsSecond, filter.Selects(new NormalizationSite(1, "layer2.0.bn1", 1e-5f, 0.1f, [1], [0], [0], [1])));
    }
}
