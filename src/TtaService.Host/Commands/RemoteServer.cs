using System.CommandLine;
using System.CommandLine.Parsing;
using System.Net.Sockets;
using System.Security.Authentication;
using Grpc.Core;
using TtaService.Client;

namespace TtaService.Host.Commands;

/// <summary>A running server as commands talk to it; a call that fails says what was tried, where, and what to do.</summary>
internal sealed class RemoteServer : IDisposable
{
    private const string KeyVariable = "TTA_API_KEY";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(30);

    public RemoteServer(Uri address, string? apiKey = null)
    {
        Address = address;
        Client = new TtaClient(new TtaClientOptions { Address = address, ApiKey = apiKey ?? Environment.GetEnvironmentVariable(KeyVariable) });
    }

    public Uri Address { get; }

    public TtaClient Client { get; }

    public static Option<Uri> AddressOption() => new("--address")
    {
        Description = "The server's gRPC address.",
        DefaultValueFactory = _ => new Uri("http://127.0.0.1:8001"),
        CustomParser = ParseAddress,
    };

    public static Option<string?> ApiKeyOption() => new("--api-key")
    {
        Description = $"Sent as x-api-key; the environment's {KeyVariable} when not given, which other users of the machine don't see.",
        HelpName = "KEY",
    };

    public static RemoteServer Of(ParseResult parsed, Option<Uri> address, Option<string?> apiKey) => new(parsed.GetRequiredValue(address), parsed.GetValue(apiKey));

    /// <summary>One unary call.</summary>
    /// <param name="what">Completes "could not …".</param>
    /// <param name="call">Begins it with this deadline.</param>
    /// <exception cref="CommandException">It failed.</exception>
    public async Task<T> AskAsync<T>(string what, Func<TtaClient, DateTime, AsyncUnaryCall<T>> call)
    {
        try
        {
            using var asked = call(Client, TimeProvider.System.GetUtcNow().UtcDateTime + Patience);
            return await asked.ConfigureAwait(false);
        }
        catch (RpcException failed) when (failed.StatusCode != StatusCode.Cancelled)
        {
            throw Explain(what, failed);
        }
    }

    /// <summary>Opens a stream; a server that is not there is reported after a few attempts, one that goes away later is waited for.</summary>
    /// <exception cref="CommandException">It could not be opened.</exception>
    public async Task<AdaptationStream> OpenAsync(V1.OpenStream open, AdaptationStreamOptions options, CancellationToken cancel)
    {
        try
        {
            return await Client.OpenAsync(open, options, cancel).ConfigureAwait(false);
        }
        catch (RpcException failed)
        {
            throw Explain($"open stream '{open.Stream}'", failed);
        }
    }

    public void Dispose() => Client.Dispose();

    /// <summary>A failed call in the words of a command's user.</summary>
    public CommandException Explain(string what, RpcException failed) => new($"could not {what} at {Address.AbsoluteUri.TrimEnd('/')}: {Why(Address, failed)}");

    /// <summary>Why a call failed, and what to do.</summary>
    public static string Why(Uri address, RpcException failed)
    {
        for (var inner = failed.Status.DebugException; inner is not null; inner = inner.InnerException)
        {
            switch (inner)
            {
                case SocketException { SocketErrorCode: SocketError.ConnectionRefused }:
                    return "nothing listens there (Unavailable: connection refused); start a server with 'tta serve', or name another with --address";
                case SocketException { SocketErrorCode: SocketError.HostNotFound or SocketError.TryAgain or SocketError.NoData }:
                    return $"there is no host '{address.Host}' (Unavailable); check --address";
                case SocketException unreachable:
                    return $"it can't be reached (Unavailable: {unreachable.Message}); check --address and the network";
                case AuthenticationException tls:
                    return $"no TLS connection came about ({tls.Message}); use http:// for a server without TLS, or install its certificate";
                case HttpProtocolException:
                // An HTTP/1.1 port may close the connection before it says anything; only the text tells that from a server that goes away later.
                case HttpRequestException or HttpIOException when inner.Message.Contains("HTTP/2 handshake", StringComparison.Ordinal):
                case HttpRequestException { HttpRequestError: HttpRequestError.InvalidResponse or HttpRequestError.HttpProtocolError or HttpRequestError.VersionNegotiationError }:
                    return $"what listens there speaks no gRPC over HTTP/2 ({failed.StatusCode}); is it the HTTP port? gRPC is on Server:GrpcPort, 8001 by default";
            }
        }

        return failed.StatusCode switch
        {
            StatusCode.DeadlineExceeded => $"no answer within {Patience.TotalSeconds:0} s (DeadlineExceeded); look at the server's log, or try again",
            StatusCode.Unimplemented => $"the server does not know the call (Unimplemented: {failed.Status.Detail}); is it a TtaService of this version?",
            StatusCode.Unauthenticated => $"{failed.Status.Detail} (Unauthenticated); give the key with --api-key or {KeyVariable}",
            _ => $"{failed.Status.Detail} ({failed.StatusCode})",
        };
    }

    private static Uri? ParseAddress(ArgumentResult result)
    {
        if (Uri.TryCreate(result.Tokens[0].Value, UriKind.Absolute, out var address) && address.Scheme is "http" or "https")
        {
            return address;
        }

        result.AddError($"--address is '{result.Tokens[0].Value}'; give an address such as http://127.0.0.1:8001.");
        return null;
    }
}
