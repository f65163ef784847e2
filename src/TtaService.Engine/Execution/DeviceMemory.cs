using System.Runtime.InteropServices;
using TorchSharp;

namespace TtaService.Engine.Execution;

/// <summary>Asks the CUDA driver what TorchSharp does not tell.</summary>
internal static partial class DeviceMemory
{
    /// <summary>Bytes that are free on a GPU, which this thread has used before; null on the CPU, or where the driver does not say.</summary>
    public static long? FreeBytes(torch.Device device)
    {
        try
        {
            return device.type == DeviceType.CUDA && GetInfo(out var free, out _) == 0 ? (long)free : null;
        }
        catch (Exception missing) when (missing is DllNotFoundException or EntryPointNotFoundException)
        {
            return null;
        }
    }

    // Of the thread's current context, which is the device that the model was just brought to.
    [LibraryImport("libcuda.so.1", EntryPoint = "cuMemGetInfo_v2")]
    private static partial int GetInfo(out nuint free, out nuint total);
}
