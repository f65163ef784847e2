using static TorchSharp.torch;

namespace TtaService.Engine.Tensors;

/// <summary>The values of tensors as arrays.</summary>
internal static class HostValues
{
    /// <summary>A tensor's values, row-major, wherever it is.</summary>
    public static T[] ToHost<T>(this Tensor values)
        where T : unmanaged
    {
        using var detached = values.detach();
        using var laid = detached.contiguous();
        using var host = laid.cpu();
        // Torch has no memory for nothing.
        return host.numel() == 0 ? [] : host.data<T>().ToArray();
    }
}
