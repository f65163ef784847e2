using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>Instructions over value slots; the constants fill theirs before the first one.</summary>
internal sealed record Program(IReadOnlyList<Instruction> Instructions, Tensor?[] Constants);

/// <summary>What a program of a graph is made for.</summary>
internal enum ProgramForm
{
    /// <summary>Asks at every site.</summary>
    Adaptive,

    /// <summary>Asks nowhere: the source statistics are folded into the convolutions before the sites.</summary>
    Folded,

    /// <summary>Asks at every site, and consists of torch operators that gradients pass through.</summary>
    Differentiable,
}

/// <summary>One step of a program.</summary>
internal abstract class Instruction(int[] inputs, int[] outputs, bool makesMemory)
{
    /// <summary>Slots read; -1 for an omitted input.</summary>
    public int[] Inputs => inputs;

    /// <summary>Slots written; -1 for an output that nobody wants.</summary>
    public int[] Outputs => outputs;

    /// <summary>Whether the outputs lie in memory of their own; false where they may be views of an input.</summary>
    public bool MakesMemory => makesMemory;

    /// <summary>Slots that nobody reads afterwards.</summary>
    public int[] Dying { get; set; } = [];

    public abstract void Run(Tensor?[] values, ISiteNormalizer? sites);
}

/// <summary>Runs an operator's kernel, and what was fused behind it, in place where the kernel made the memory.</summary>
internal sealed class KernelInstruction(
    Kernel kernel,
    int[] inputs,
    int[] outputs,
    bool makesMemory,
    int residual = -1,
    Epilogue? epilogue = null) : Instruction(inputs, outputs, makesMemory)
{
    private readonly Tensor?[] _arguments = new Tensor?[inputs.Length];

    public override void Run(Tensor?[] values, ISiteNormalizer? sites)
    {
        for (var i = 0; i < _arguments.Length; i++)
        {
            _arguments[i] = Inputs[i] < 0 ? null : values[Inputs[i]];
        }

        var results = kernel(_arguments);
        Array.Clear(_arguments);
        if (residual >= 0)
        {
            results[0] = Fused.Add(results[0], values[residual]!);
        }

        if (epilogue is { Clamps: true } bounds)
        {
            Fused.Clamp(results[0], bounds);
        }

        for (var i = 0; i < results.Length; i++)
        {
            if (i < Outputs.Length && Outputs[i] >= 0)
            {
                values[Outputs[i]] = results[i];
            }
            else
            {
                results[i].Dispose();
            }
        }
    }
}

/// <summary>Asks the pass how to normalize at a site.</summary>
internal sealed class SiteInstruction(NormalizationSite site, int input, int residual, int output, Epilogue epilogue)
    : Instruction(residual < 0 ? [input] : [input, residual], [output], makesMemory: true)
{
    /// <summary>Slot of what is normalized.</summary>
    public int Input => input;

    /// <summary>Slot of what is added behind the normalization; -1 for none.</summary>
    public int Residual => residual;

    /// <summary>Whether the input's memory may be overwritten: nobody reads it afterwards, through no view either.</summary>
    public bool MayOverwrite { get; set; }

    public override void Run(Tensor?[] values, ISiteNormalizer? sites)
    {
        var x = values[input]!;
        var other = residual < 0 ? null : values[residual];

        // A residual that broadcasts is added behind the site.
        var fused = other is null || (other.dtype == x.dtype && other.shape.AsSpan().SequenceEqual(x.shape));
        var y = Normalize(sites!, x, fused ? other : null, fused ? epilogue : Epilogue.None);
        if (!fused)
        {
            y = Fused.Add(y, other!);
            Fused.Clamp(y, epilogue);
        }

        values[output] = ReferenceEquals(y, x) ? x.alias() : y;
    }

    private Tensor Normalize(ISiteNormalizer sites, Tensor x, Tensor? added, Epilogue behind)
    {
        if (!site.ChannelsLast || x.dim() == 2)
        {
            return sites.Normalize(site, x, MayOverwrite, added, behind);
        }

        using var second = x.movedim([-1L], [1L]);
        using var addedSecond = added?.movedim([-1L], [1L]);
        var y = sites.Normalize(site, second, MayOverwrite, addedSecond, behind);
        var last = y.movedim([1L], [-1L]);
        if (!ReferenceEquals(y, second))
        {
            y.Dispose();
        }

        return last;
    }
}

internal static class Fused
{
    /// <summary>The sum, in place of y where its shape and type allow; y is disposed otherwise.</summary>
    public static Tensor Add(Tensor y, Tensor other)
    {
        if (y.dtype == other.dtype && y.shape.AsSpan().SequenceEqual(other.shape))
        {
            return y.AddInPlace(other);
        }

        using var narrow = y;
        return narrow.Plus(other);
    }

    /// <summary>Clamps in place.</summary>
    public static void Clamp(Tensor x, Epilogue epilogue)
    {
        if (epilogue == Epilogue.Relu)
        {
            x.relu_();
        }
        else if (epilogue.Clamps)
        {
            x.ClampInPlace(epilogue.Minimum, epilogue.Maximum);
        }
    }
}
