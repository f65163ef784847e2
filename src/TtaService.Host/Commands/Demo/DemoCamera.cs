using Grpc.Core;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Commands.Demo;

/// <summary>A simulated camera: sends the same frames on two streams, one as the model was trained and one adapted, and counts what is right.</summary>
internal sealed class DemoCamera(string name, string model, Method adapted, CameraFeed feed, CameraScore score)
{
    /// <summary>Sends until it is told to stop.</summary>
    public async Task RunAsync(CallInvoker connection, int batchSize, CancellationToken stop)
    {
        try
        {
            var plain = await OpenAsync(connection, "as-trained", new Method { Name = "source" }, stop).ConfigureAwait(false);
            await using var closePlain = plain.ConfigureAwait(false);
            var adapting = await OpenAsync(connection, "adapted", adapted, stop).ConfigureAwait(false);
            await using var closeAdapting = adapting.ConfigureAwait(false);
            while (!stop.IsCancellationRequested)
            {
                var frames = feed.Next(batchSize);
                var replies = await Task.WhenAll(
                    plain.StepAsync(frames.Select(frame => frame.Frame), cancel: stop),
                    adapting.StepAsync(frames.Select(frame => frame.Frame), cancel: stop)).ConfigureAwait(false);
                score.Count(feed.Domain, frames.Count, Correct(replies[0], frames), Correct(replies[1], frames));
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested)
        {
        }
        catch (RpcException) when (stop.IsCancellationRequested)
        {
        }
        catch (StepFailedException refused)
        {
            throw new CommandException($"{name}: {refused.Message}");
        }
    }

    private Task<AdaptationStream> OpenAsync(CallInvoker connection, string kind, Method method, CancellationToken stop) =>
        AdaptationStream.OpenAsync(connection, new OpenStream { Stream = $"{name}-{kind}", Model = model, Method = method, Reply = new ReplyOptions { TopK = 1 } }, cancel: stop);

    private static int Correct(StepReply reply, IReadOnlyList<LabelledFrame> frames) =>
        reply.Predictions.Zip(frames).Count(pair => pair.First.Top[0].Index == pair.Second.Label);
}
