using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Onnx.Compiling;
using TtaService.Engine.Onnx.Operators;
using Xunit;

namespace TtaService.Engine.Tests.Onnx;

public class SlotPlanTests
{
    private const int Input = 0;

    [Fact]
    public void Apply_LastReader_LetsTheSlotDie()
    {
        Instruction[] program = [Maker([Input], 1), Maker([1], 2), Maker([1, 2], 3)];

        SlotPlan.Apply(program, [3], _ => false);

        Assert.Equal([[Input], [], [1, 2]], program.Select(instruction => instruction.Dying));
    }

    [Fact]
    public void Apply_ResultThatNobodyReads_DiesWhereItIsWritten()
    {
        Instruction[] program = [new KernelInstruction(Nothing, [Input], [1, 2, -1], makesMemory: true), Maker([1], 3)];

        SlotPlan.Apply(program, [3], _ => false);

        Assert.Equal([[Input, 2], [1]], program.Select(instruction => instruction.Dying));
    }

    [Fact]
    public void Apply_ConstantsAndOutputs_NeverDie()
    {
        Instruction[] program = [Maker([Input, 9], 1), Maker([1, 9], 2)];

        SlotPlan.Apply(program, [1, 2], slot => slot == 9);

        Assert.Equal([[Input], []], program.Select(instruction => instruction.Dying));
    }

    [Fact]
    public void Apply_SiteBehindItsOnlyMaker_MayOverwrite()
    {
        var site = Site(1, 2);

        SlotPlan.Apply([Maker([Input], 1), site, Maker([2], 3)], [3], _ => false);

        Assert.True(site.MayOverwrite);
    }

    [Fact]
    public void Apply_InputIsReadLater_MayNotOverwrite()
    {
        var site = Site(1, 2);

        SlotPlan.Apply([Maker([Input], 1), site, Maker([1, 2], 3)], [3], _ => false);

        Assert.False(site.MayOverwrite);
    }

    [Fact]
    public void Apply_InputIsAnOutput_MayNotOverwrite()
    {
        var site = Site(1, 2);

        SlotPlan.Apply([Maker([Input], 1), site], [1, 2], _ => false);

        Assert.False(site.MayOverwrite);
    }

    [Fact]
    public void Apply_InputOfTheGraph_MayNotBeOverwritten()
    {
        var site = Site(Input, 1);

        SlotPlan.Apply([site], [1], _ => false);

        Assert.False(site.MayOverwrite);
    }

    // A view of a view, made before the site and read behind it, keeps the memory alive.
    [Theory]
    [InlineData(true, false)]
    [InlineData(false, true)]
    public void Apply_ViewIsReadLater_KeepsTheMemoryAlive(bool isView, bool overwrites)
    {
        var site = Site(1, 4);

        SlotPlan.Apply([Maker([Input], 1), Node([1], 2, isView), Node([2], 3, isView), site, Maker([3, 4], 5)], [5], _ => false);

        Assert.Equal(overwrites, site.MayOverwrite);
    }

    [Fact]
    public void Apply_ViewThatDiedBeforeTheSite_FreesTheMemory()
    {
        var site = Site(1, 4);

        SlotPlan.Apply([Maker([Input], 1), View([1], 2), Maker([2], 3), site, Maker([3, 4], 5)], [5], _ => false);

        Assert.True(site.MayOverwrite);
    }

    [Fact]
    public void Apply_ResidualIsAViewOfTheInput_MayNotOverwrite()
    {
        var site = Site(1, 3, residual: 2);

        SlotPlan.Apply([Maker([Input], 1), View([1], 2), site], [3], _ => false);

        Assert.False(site.MayOverwrite);
    }

    // A slice of a constant and one of the input share no memory, though both nodes read the constant.
    [Fact]
    public void Apply_ConstantsJoinNoViews()
    {
        var site = Site(1, 4);

        SlotPlan.Apply([Maker([Input], 1), View([1, 9], 2), View([9], 3), site, Maker([3, 4], 5)], [5], slot => slot == 9);

        Assert.True(site.MayOverwrite);
    }

    private static KernelInstruction Maker(int[] inputs, int output) => Node(inputs, output, isView: false);

    private static KernelInstruction View(int[] inputs, int output) => Node(inputs, output, isView: true);

    private static KernelInstruction Node(int[] inputs, int output, bool isView) => new(Nothing, inputs, [output], makesMemory: !isView);

    private static SiteInstruction Site(int input, int output, int residual = -1) =>
        new(new NormalizationSite(0, "site", 1e-5f, 0.1f, [1f], [0f], [0f], [1f]), input, residual, output, Epilogue.None);

    private static TorchSharp.torch.Tensor[] Nothing(TorchSharp.torch.Tensor?[] inputs) => throw new InvalidOperationException("plans run nothing");
}
