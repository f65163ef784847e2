using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx.Operators;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;

namespace TtaService.Engine.Onnx;

/// <summary>Instructions over value slots; the constants fill theirs before the first one.</summary>
internal sealed record Program(IReadOnlyList<Instruction> Instructions, Tensor?[] Constants);

/// <summary>One step of a program.</summary>
internal abstract class Instruction(int[] inputs, int[] outputs)
{
    /// <summary>Slots read; -1 for an omitted input.</summary>
    public int[] Inputs => inputs;

    /// <summary>Slots written; -1 for an output that nobody wants.</summary>
    public int[] Outputs => outputs;

    /// <summary>Slots that nobody reads afterwards.</summary>
    public int[] Dying { get; set; } = [];

    public abstract void Run(Tensor?[] values, ISiteNormalizer? sites);
}

/// <summary>Runs an operator's kernel, and what was fused behind it in place.</summary>
internal sealed class KernelInstruction(Kernel kernel, int[] inputs, int[] outputs, int residual = -1, Epilogue? epilogue = null) : Instruction(inputs, outputs)
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
            results[0].AddInPlace(values[residual]!);
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
internal sealed class SiteInstruction(NormalizationSite site, int input, int residual, int output, Epilogue epilogue, bool ownsInput)
    : Instruction(residual < 0 ? [input] : [input, residual], [output])
{
    public override void Run(Tensor?[] values, ISiteNormalizer? sites)
    {
        var x = values[input]!;
        var other = residual < 0 ? null : values[residual];

        // A residual that broadcasts is added behind the site.
        var fused = other is null || other.shape.AsSpan().SequenceEqual(x.shape);
        var y = sites!.Normalize(site, x, ownsInput && Array.IndexOf(Dying, input) >= 0, fused ? other : null, fused ? epilogue : Epilogue.None);
        if (!fused)
        {
            using var unfused = y;
            y = unfused.Plus(other!);
            Fused.Clamp(y, epilogue);
        }

        values[output] = ReferenceEquals(y, x) ? x.alias() : y;
    }
}

internal static class Fused
{
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
