using TtaService.Engine.Normalization;
using TtaService.Host.Commands;

namespace TtaService.Host.Tests.Commands;

public sealed class MethodExpressionsTests
{
    [Fact]
    public void Parse_HyperparametersInBraces_AreSetAndShownInTheLabel()
    {
        var choices = MethodExpressions.Parse("source, ema{momentum=0.25},unmix_tns{components=4;initial=reference}", [], MethodRegistry.BuiltIn);

        Assert.Equal(["source", "ema{momentum=0.25}", "unmix_tns{components=4;initial=reference}"], choices.Select(choice => choice.Label));
        Assert.Equal(0.25, (double)choices[1].Settings.Hyperparameters["momentum"]!);
        Assert.Equal(4, (long)choices[2].Settings.Hyperparameters["components"]!);
    }

    [Fact]
    public void Parse_Override_SetsTheNamedMethodOnly()
    {
        var choices = MethodExpressions.Parse("ema,tbr", ["ema.momentum=0.2"], MethodRegistry.BuiltIn);

        Assert.Equal(0.2, (double)choices[0].Settings.Hyperparameters["momentum"]!);
        Assert.Equal(MethodSettings.Create("tbr"), choices[1].Settings);
    }

    [Fact]
    public void Parse_PartsBehindAMethod_AreSetByTheirOwnNamesAndShownSo()
    {
        const string Expression = "unmix_tns{components=4}+lame{neighbors=3;affinity=rbf},tbr+temporal,tbr+lame";
        var choices = MethodExpressions.Parse(Expression, ["tbr+lame.lame_memory=2"], MethodRegistry.BuiltIn);

        Assert.Equal("unmix_tns{components=4}+lame{neighbors=3;affinity=rbf},tbr+temporal,tbr+lame{memory=2}", string.Join(',', choices.Select(choice => choice.Label)));
        Assert.Equal(["unmix_tns+lame", "tbr+temporal", "tbr+lame"], choices.Select(choice => choice.Settings.Name));
        Assert.Equal((3L, "rbf"), ((long)choices[0].Settings.Hyperparameters["lame_neighbors"]!, (string?)choices[0].Settings.Hyperparameters["lame_affinity"]));
        // The wire, model.json and snapshots have the flat form.
        Assert.Equal(choices[0].Settings, MethodRegistry.BuiltIn.Settings(choices[0].ToWire().Name, choices[0].Given));
        Assert.Equal(choices[0].Settings, MethodExpressions.ParseSingle(choices[0].Label, MethodRegistry.BuiltIn).Settings);
    }

    [Theory]
    [InlineData("ema{momentum=0.1", "can't be read")]
    [InlineData("ema+", "can't be read")]
    [InlineData("+lame", "can't be read")]
    [InlineData("ema,,source", "can't be read")]
    [InlineData("ema}momentum{", "can't be read")]
    [InlineData("ema{momentum}", "not NAME=VALUE")]
    [InlineData("source,source", "more than once")]
    public void Parse_Malformed_IsAWrongUse(string expression, string said)
    {
        var refusal = Assert.Throws<CommandException>(() => MethodExpressions.Parse(expression, [], MethodRegistry.BuiltIn));

        Assert.Equal(CommandException.Usage, refusal.ExitCode);
        Assert.Contains(said, refusal.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("tbr.x=1", "--method lists ema")]
    [InlineData("momentum=1", "does not name a method")]
    [InlineData("ema.momentum", "not NAME=VALUE")]
    public void Parse_OverrideOfNothing_IsAWrongUse(string text, string said)
    {
        var refusal = Assert.Throws<CommandException>(() => MethodExpressions.Parse("ema", [text], MethodRegistry.BuiltIn));

        Assert.Contains(said, refusal.Message, StringComparison.Ordinal);
    }
}
