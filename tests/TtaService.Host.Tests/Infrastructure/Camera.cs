using System.Collections.Concurrent;
using System.Diagnostics;
using Grpc.Core;
using Grpc.Net.Client;
using TtaService.Client;
using TtaService.V1;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>A camera that sends frames without end over a connection of its own and notes what became of them.</summary>
internal sealed class Camera : IAsyncDisposable
{
    private static readonly AdaptationStreamOptions Patient = new() { MaxAttempts = 1000, FirstDelay = TimeSpan.FromMilliseconds(20), MaxDelay = TimeSpan.FromMilliseconds(200) };

    private readonly CancellationTokenSource _stop = new();
    private readonly GrpcChannel _channel;
    private readonly Task _running;

    public Camera(string name, int port, TimeSpan period)
    {
        Name = name;
        _channel = ServerProcess.Connect(port);
        _running = RunAsync(_channel.CreateCallInvoker(), period);
    }

    public string Name { get; }

    /// <summary>Every answer, when it came, a Stopwatch timestamp, and after how long.</summary>
    public ConcurrentQueue<(long At, StepReply Reply, TimeSpan Took)> Answers { get; } = new();

    /// <summary>Steps that failed for good.</summary>
    public ConcurrentQueue<Exception> Failures { get; } = new();

    public long LongestGapMilliseconds(long from)
    {
        var times = Answers.Select(answer => answer.At).Where(at => at >= from).ToList();
        var last = Answers.Select(answer => answer.At).LastOrDefault(at => at < from, from);
        return times.Select(at => (long)Stopwatch.GetElapsedTime(last, last = at).TotalMilliseconds).DefaultIfEmpty(long.MaxValue).Max();
    }

    /// <summary>Waits for this many further answers.</summary>
    public async Task UntilAnsweredAsync(int more)
    {
        // Generous: the machine may be busy with other things.
        var wanted = Answers.Count + more;
        using var giveUp = new CancellationTokenSource(TimeSpan.FromSeconds(60));
        while (Answers.Count < wanted)
        {
            Assert.False(giveUp.IsCancellationRequested || _running.IsCompleted,
                $"camera {Name} has {Answers.Count} answers of {wanted}, failures: {string.Join("; ", Failures.Select(failure => failure.Message))}");
            await Task.Delay(10);
        }
    }

    public async ValueTask DisposeAsync()
    {
        await _stop.CancelAsync();
        await _running;
        _channel.Dispose();
        _stop.Dispose();
    }

    private async Task RunAsync(CallInvoker invoker, TimeSpan period)
    {
        try
        {
            await using var stream = await AdaptationStream.OpenAsync(invoker, new OpenStream { Stream = Name, Model = TestHost.Model }, Patient, _stop.Token);
            for (var frame = 0; !_stop.IsCancellationRequested; frame++)
            {
                try
                {
                    var sent = Stopwatch.GetTimestamp();
                    var reply = await stream.StepAsync([TestFrames.Tensor(frame % 50)], cancel: _stop.Token);
                    Answers.Enqueue((Stopwatch.GetTimestamp(), reply, Stopwatch.GetElapsedTime(sent)));
                }
                catch (StepFailedException failed)
                {
                    Failures.Enqueue(failed);
                }

                await Task.Delay(period, _stop.Token);
            }
        }
        catch (OperationCanceledException)
        {
            // The test is over.
        }
        catch (Exception failed)
        {
            Failures.Enqueue(failed);
        }
    }
}
