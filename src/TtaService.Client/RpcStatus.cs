using Google.Protobuf;
using Google.Rpc;
using Grpc.Core;

namespace TtaService.Client;

/// <summary>What a call's end says about trying again.</summary>
internal static class RpcStatus
{
    /// <summary>True for an end that says nothing about the request: the connection broke, the server stops, the call was idle.</summary>
    /// <param name="ended">The call's end.</param>
    /// <param name="wasOpen">The stream was open before: then a refusal that says when to try again is no final one, too (a replica that is full, a stream whose
    /// owner is silent).</param>
    public static bool MayReconnect(this RpcException ended, bool wasOpen) =>
        ended.StatusCode == StatusCode.Unavailable
        || ended.Status.DebugException is HttpRequestException or IOException
        || ended.IsWithoutStatus()
        || ended.Detail<ErrorInfo>()?.Reason == "CALL_IDLE"
        || (wasOpen && ended.Detail<RetryInfo>() is not null);

    /// <summary>The delay that the server asks for, zero when it names none.</summary>
    public static TimeSpan RetryDelay(this RpcException ended) => ended.Detail<RetryInfo>()?.RetryDelay?.ToTimeSpan() ?? TimeSpan.Zero;

    /// <summary>The end in words: of a connection that did not come about, what the network said.</summary>
    public static string InWords(this RpcException ended)
    {
        var inner = ended.Status.DebugException;
        while (inner?.InnerException is { } deeper)
        {
            inner = deeper;
        }

        return $"{ended.StatusCode}: {(inner is System.Net.Sockets.SocketException ? inner.Message : ended.Status.Detail)}";
    }

    // A proxy whose server is killed ends the answer as if it were whole, and gRPC calls that cancelled. This service always says why it ends a call.
    private static bool IsWithoutStatus(this RpcException ended) => ended.StatusCode == StatusCode.Cancelled && ended.Detail<ErrorInfo>() is null;

    private static T? Detail<T>(this RpcException ended)
        where T : class, IMessage, new()
    {
        if (ended.Trailers.GetValueBytes("grpc-status-details-bin") is not { } bytes)
        {
            return null;
        }

        try
        {
            foreach (var detail in Google.Rpc.Status.Parser.ParseFrom(bytes).Details)
            {
                if (detail.TryUnpack<T>(out var found))
                {
                    return found;
                }
            }
        }
        catch (InvalidProtocolBufferException)
        {
            // A proxy's own details; the status code has to do.
        }

        return null;
    }
}
