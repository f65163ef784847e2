using System.Net;
using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Options;

namespace TtaService.Host.Hosting;

/// <summary>Puts the server together.</summary>
internal static partial class TtaHost
{
    /// <summary>The server, not started yet.</summary>
    /// <param name="arguments">Settings as <c>--Server:GrpcPort=9001</c>; they win over environment variables (<c>Server__GrpcPort</c>), and those over appsettings.json.</param>
    /// <param name="configure">Changes to the host before it is built.</param>
    /// <exception cref="OptionsValidationException">Settings are wrong, of whatever sections; each failure names its key.</exception>
    public static WebApplication Build(string[] arguments, Action<WebApplicationBuilder>? configure = null)
    {
        var builder = WebApplication.CreateBuilder(new WebApplicationOptions { Args = arguments, ContentRootPath = AppContext.BaseDirectory });
        // What ends the start is the caller's to tell, without a stack trace before it.
        var started = false;
        builder.Logging.AddFilter("Microsoft.Extensions.Hosting.Internal.Host", level => level >= (started ? LogLevel.Information : LogLevel.Critical));
        builder.Services.AddTtaService();
        builder.Services.AddTtaTelemetry(builder.Configuration);
        builder.Services.AddOptions<KestrelServerOptions>().Configure<IOptions<ServerOptions>, PeerConnections>((kestrel, server, peers) => SettingsSection.WhenValid(server, settings => Listen(kestrel, settings, peers)));
        builder.Services.AddOptions<HostOptions>().Configure<IOptions<ServerOptions>>((host, server) => SettingsSection.WhenValid(server, settings => host.ShutdownTimeout = settings.ShutdownTimeout));
        configure?.Invoke(builder);
        var host = builder.Build();
        ValidateSettings(host);
        host.MapTtaService();
        host.Lifetime.ApplicationStarted.Register(() =>
        {
            started = true;
            WarnWhenReachable(host);
        });
        return host;
    }

    /// <summary>Where a started server listens for gRPC and for HTTP; ports that were 0 are known by then.</summary>
    public static (Uri Grpc, Uri Http) Addresses(WebApplication host)
    {
        var addresses = host.Services.GetRequiredService<IServer>().Features.Get<IServerAddressesFeature>()!.Addresses.ToArray();
        return (new Uri(addresses[0]), new Uri(addresses[1]));
    }

    // Here and not at the start only: by then the services are made, and the first that meets a wrong setting would be the only one to tell.
    private static void ValidateSettings(WebApplication host)
    {
        try
        {
            host.Services.GetRequiredService<IStartupValidator>().Validate();
        }
        catch (Exception wrong) when (wrong is OptionsValidationException or AggregateException)
        {
            ((IDisposable)host).Dispose();
            var sections = wrong is AggregateException many ? many.InnerExceptions : [wrong];
            throw new OptionsValidationException("settings", typeof(WebApplication), sections.SelectMany(section => section is OptionsValidationException problems ? problems.Failures : [section.Message]));
        }
    }

    // HTTP/2's own.
    private const int SmallestWindow = 65_535;

    // Calls that nobody reads before the others of their connection stand still.
    private const int CallsOfAWindow = 16;

    // Two listeners: without TLS a port speaks either HTTP/2 or HTTP/1.1.
    private static void Listen(KestrelServerOptions kestrel, ServerOptions server, PeerConnections peers)
    {
        var address = ListenAddressAttribute.Parse(server.Address)!;
        kestrel.AddServerHeader = false;
        kestrel.Limits.MaxConcurrentConnections = server.MaxConnections;
        kestrel.Limits.Http2.MaxStreamsPerConnection = server.MaxCallsPerConnection;
        kestrel.Limits.Http2.KeepAlivePingDelay = server.KeepAlivePingDelay;
        kestrel.Limits.Http2.KeepAlivePingTimeout = server.KeepAlivePingTimeout;
        // A call that is not read fills its own window; the connection's must hold several, or its other calls stand still too.
        kestrel.Limits.Http2.InitialConnectionWindowSize = server.MaxUnreadBytes;
        kestrel.Limits.Http2.InitialStreamWindowSize = Math.Max(SmallestWindow, server.MaxUnreadBytes / CallsOfAWindow);
        // Of what is no gRPC call; those have limits of their own.
        kestrel.Limits.MaxRequestBodySize = 64 * 1024;
        kestrel.Listen(address, server.GrpcPort, listener => Serve(listener, HttpProtocols.Http2));
        kestrel.Listen(address, server.HttpPort, listener => Serve(listener, HttpProtocols.Http1));

        void Serve(ListenOptions listener, HttpProtocols protocols)
        {
            listener.Protocols = protocols;
            listener.Use(next => connection => peers.RunAsync(connection, next));
        }
    }

    private static void WarnWhenReachable(WebApplication host)
    {
        var address = host.Services.GetRequiredService<IOptions<ServerOptions>>().Value.Address;
        if (!IPAddress.IsLoopback(ListenAddressAttribute.Parse(address)!))
        {
            Log.ReachableWithoutAuthentication(host.Logger, address);
        }
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 40, Level = LogLevel.Warning, Message = "Listening on {Address} in cleartext and without authentication: let only a trusted network reach it, or set Server:Address to localhost")]
        public static partial void ReachableWithoutAuthentication(ILogger logger, string address);
    }
}
