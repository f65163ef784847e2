using System.Collections.Concurrent;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Takes what OpenTelemetry sends over HTTP and keeps it as it came.</summary>
internal sealed class OtlpReceiver : IAsyncDisposable
{
    private readonly WebApplication _app;
    private readonly ConcurrentQueue<(string Signal, byte[] Body)> _received = new();

    private OtlpReceiver(WebApplication app) => _app = app;

    /// <summary>Settings that let a server send here.</summary>
    public string[] Settings => [$"--OTEL_EXPORTER_OTLP_ENDPOINT={_app.Urls.Single()}", "--OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf"];

    public static async Task<OtlpReceiver> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        var app = builder.Build();
        app.Urls.Add("http://127.0.0.1:0");
        var receiver = new OtlpReceiver(app);
        app.MapPost("/v1/{signal}", async (string signal, HttpRequest request) =>
        {
            using var body = new MemoryStream();
            await request.Body.CopyToAsync(body);
            receiver._received.Enqueue((signal, body.ToArray()));
        });
        await app.StartAsync();
        return receiver;
    }

    /// <summary>How often a text came with a signal: traces, metrics or logs. Protobuf holds texts as they are.</summary>
    public int Count(string signal, string text)
    {
        var wanted = Encoding.UTF8.GetBytes(text);
        var count = 0;
        foreach (var (_, body) in _received.Where(message => message.Signal == signal))
        {
            for (var at = body.AsSpan().IndexOf(wanted); at >= 0;)
            {
                count++;
                var next = body.AsSpan(at + wanted.Length).IndexOf(wanted);
                at = next < 0 ? -1 : at + wanted.Length + next;
            }
        }

        return count;
    }

    public ValueTask DisposeAsync() => _app.DisposeAsync();
}
