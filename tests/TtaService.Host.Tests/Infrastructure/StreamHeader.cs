using Grpc.Core;
using Grpc.Core.Interceptors;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Names the stream in a header, for load balancers that route by it.</summary>
internal static class StreamHeader
{
    public static CallInvoker WithStreamHeader(this CallInvoker invoker, string stream) => invoker.Intercept(metadata =>
    {
        metadata.Add("x-tta-stream", stream);
        return metadata;
    });
}
