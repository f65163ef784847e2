using TtaService.Engine.Onnx.Operators;

namespace TtaService.Engine.Onnx.Compiling;

/// <summary>What a program does behind a site's normalization, in its slots.</summary>
/// <param name="Residual">Slot of what is added; -1 for nothing.</param>
/// <param name="Output">Slot that is written.</param>
/// <param name="Epilogue">The clamp.</param>
internal readonly record struct SiteTail(int Residual, int Output, Epilogue Epilogue)
{
    /// <summary>Nothing, but that the result is written.</summary>
    public static SiteTail None(int output) => new(-1, output, Epilogue.None);

    /// <summary>An instruction of a kernel that takes these inputs and makes memory, and of the tail behind it.</summary>
    public KernelInstruction Behind(Kernel kernel, int[] inputs)
    {
        if (Residual < 0)
        {
            return new KernelInstruction(kernel, inputs, [Output], makesMemory: true, -1, Epilogue);
        }

        // The residual is read by the instruction, not by its kernel.
        var own = inputs.Length;
        return new KernelInstruction(arguments => kernel(arguments.AsSpan(0, own).ToArray()), [.. inputs, Residual], [Output], makesMemory: true, Residual, Epilogue);
    }
}
