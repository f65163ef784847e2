using Google.Rpc;
using Grpc.Core;

namespace TtaService.Host.Tests.Infrastructure;

internal static class RpcAssert
{
    /// <summary>The call is refused with this code and reason; returns the details.</summary>
    public static async Task<Google.Rpc.Status> RefusedAsync(StatusCode code, string reason, Func<Task> call)
    {
        var refused = await Assert.ThrowsAsync<RpcException>(call);
        return Refused(code, reason, refused);
    }

    public static Google.Rpc.Status Refused(StatusCode code, string reason, RpcException refused)
    {
        Assert.Equal((code, reason), (refused.StatusCode, refused.GetRpcStatus()?.GetDetail<ErrorInfo>()?.Reason ?? refused.Status.Detail));
        return refused.GetRpcStatus()!;
    }
}
