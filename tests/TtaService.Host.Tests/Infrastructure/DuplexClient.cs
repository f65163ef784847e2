using Grpc.Core;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A StreamInfer call, written and read by hand.</summary>
internal sealed class DuplexClient(AsyncDuplexStreamingCall<StreamInferRequest, StreamInferReply> call) : IDisposable
{
    public StreamOpened Opened { get; private set; } = new();

    public static async Task<DuplexClient> OpenAsync(AdaptationService.AdaptationServiceClient client, OpenStream open, CancellationToken cancel = default)
    {
        var duplex = new DuplexClient(client.StreamInfer(cancellationToken: cancel));
        await duplex.WriteAsync(new StreamInferRequest { Open = open });
        duplex.Opened = (await duplex.ReadAsync()).Opened;
        return duplex;
    }

    public static Task<DuplexClient> OpenAsync(TestHost host, string stream, string? method = null) => OpenAsync(host.Adaptation, new OpenStream
    {
        Stream = stream,
        Model = TestHost.Model,
        Method = method is null ? null : new Method { Name = method },
        Reply = new ReplyOptions { RawOutputs = true },
    });

    public Task WriteAsync(StreamInferRequest request) => call.RequestStream.WriteAsync(request);

    public Task SendAsync(ulong sequence, params Frame[] frames) => WriteAsync(new StreamInferRequest { Step = new StepRequest { Sequence = sequence, Frames = { frames } } });

    public async Task<StreamInferReply> ReadAsync() => await call.ResponseStream.MoveNext(CancellationToken.None).WaitAsync(TimeSpan.FromSeconds(60))
        ? call.ResponseStream.Current
        : throw new RpcException(call.GetStatus(), call.GetTrailers());

    public async Task<StreamInferReply> StepAsync(ulong sequence, params Frame[] frames)
    {
        await SendAsync(sequence, frames);
        return await ReadAsync();
    }

    /// <summary>How the server ended the call.</summary>
    public async Task<RpcException> EndAsync()
    {
        return await Assert.ThrowsAsync<RpcException>(async () =>
        {
            while (true)
            {
                await ReadAsync();
            }
        });
    }

    /// <summary>All replies until the server ends the call, and how it did. To be started before the server stops: what a client has not read when the connection closes,
    /// it does not get.</summary>
    public async Task<(IReadOnlyList<StreamInferReply> Replies, RpcException End)> ReadToEndAsync()
    {
        var replies = new List<StreamInferReply>();
        try
        {
            while (true)
            {
                replies.Add(await ReadAsync());
            }
        }
        catch (RpcException end)
        {
            return (replies, end);
        }
    }

    public Task CompleteAsync() => call.RequestStream.CompleteAsync();

    public void Dispose() => call.Dispose();
}
