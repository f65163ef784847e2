using Grpc.Core;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Calls whose messages are any bytes.</summary>
internal static class RawCalls
{
    private static readonly Marshaller<byte[]> Bytes = Marshallers.Create(bytes => bytes, bytes => bytes);

    public static Method<byte[], byte[]> Method(MethodType type, string service, string name) => new(type, service, name, Bytes, Bytes);
}
