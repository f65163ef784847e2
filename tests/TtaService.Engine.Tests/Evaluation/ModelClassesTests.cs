using TtaService.Evaluation;

namespace TtaService.Engine.Tests.Evaluation;

/// <summary>Folders of images are the model's classes by label or by index, and never by their order alone.</summary>
public sealed class ModelClassesTests
{
    private static readonly ModelClasses Named = new(3, ["T-shirt/top", "Trouser", "Ankle boot"]);

    [Theory]
    [InlineData("Ankle boot,T-shirt_top,Trouser", 2, 0, 1)]
    [InlineData("ankle_boot,t-shirt-top,trouser", 2, 0, 1)]
    [InlineData("0,1,2", 0, 1, 2)]
    [InlineData("02,00,01", 2, 0, 1)]
    public void Match_LabelsOrIndexes_FindsTheClass(string folders, params int[] expected) => Assert.Equal(expected, Named.Match("data", folders.Split(',')));

    [Fact]
    public void Match_LabelsThatAreNumbers_AreLabels() => Assert.Equal([1, 0], new ModelClasses(2, ["1", "0"]).Match("data", ["0", "1"]));

    [Fact]
    public void Match_LabelsThatDifferBySignsOnly_NeedThemExactly()
    {
        var classes = new ModelClasses(2, ["a-b", "ab"]);

        Assert.Equal([1, 0], classes.Match("data", ["ab", "a-b"]));
        Assert.Throws<DataFormatException>(() => classes.Match("data", ["AB", "a-b"]));
    }

    [Theory]
    [InlineData("Ankle boot,Trouser,Shirt", "Shirt fits no label")]
    [InlineData("Trouser,1,2", "1, 2 fits no label")]
    [InlineData("0,1,3", "0, 1, 3 fits no label")]
    [InlineData("Ankle boot,Trouser", "no folder for 0 (T-shirt/top)")]
    [InlineData("1,2", "add an empty folder")]
    [InlineData("0,00,1,2", "folders 0 and 00 are both class 0 (T-shirt/top)")]
    public void Match_UnknownOrMissing_IsRefusedWithWhatToDo(string folders, string said) =>
        Assert.Contains(said, Assert.Throws<DataFormatException>(() => Named.Match("data", folders.Split(','))).Message, StringComparison.Ordinal);

    [Fact]
    public void Match_NamesForAModelWithoutLabels_IsRefused() =>
        Assert.Contains(
            "model.json has no labels", Assert.Throws<DataFormatException>(() => new ModelClasses(2, []).Match("data", ["cat", "dog"])).Message, StringComparison.Ordinal);
}
