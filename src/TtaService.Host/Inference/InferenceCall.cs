using Grpc.Core;
using TtaService.Host.Grpc;
using TtaService.Inference;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>One ModelStreamInfer call: requests of a sequence run in their order, others beside each other, as many at a time as a stream may have steps waiting.</summary>
internal sealed class InferenceCall(InferenceModels models, IServerStreamWriter<ModelStreamInferResponse> responses, StreamsOptions options, string client, bool endsOnError, CancellationToken cancel) : IDisposable
{
    private readonly SemaphoreSlim _places = new(options.MaxPendingSteps);
    private readonly SemaphoreSlim _writing = new(1);
    private readonly CancellationTokenSource _ending = CancellationTokenSource.CreateLinkedTokenSource(cancel);
    private readonly Dictionary<(string Model, string Sequence), Task> _last = [];
    private FailureException? _error;

    public async Task RunAsync(IAsyncStreamReader<ModelInferRequest> requests)
    {
        try
        {
            while (await requests.MoveNext(_ending.Token).ConfigureAwait(false))
            {
                await _places.WaitAsync(_ending.Token).ConfigureAwait(false);
                Begin(requests.Current);
                // The request's frames are counted by who decodes them.
                RequestMessages.Current?.HandOver();
            }
        }
        catch (OperationCanceledException) when (_error is not null)
        {
            // Told below.
        }
        finally
        {
            // What was taken is answered, also when the server stops; all places are free then.
            for (var place = 0; place < options.MaxPendingSteps; place++)
            {
                await _places.WaitAsync(CancellationToken.None).ConfigureAwait(false);
            }
        }

        if (_error is not null)
        {
            throw _error;
        }
    }

    public void Dispose()
    {
        _places.Dispose();
        _writing.Dispose();
        _ending.Dispose();
    }

    private void Begin(ModelInferRequest message)
    {
        InferenceRequest request;
        try
        {
            request = WireTensors.Read(message, client);
        }
        catch (FailureException refused)
        {
            _ = EndAsync(RefuseAsync(message.Id, refused));
            return;
        }

        if (request.Parameters.Sequence is not { } sequence)
        {
            _ = EndAsync(AnswerAsync(request, Task.CompletedTask));
            return;
        }

        foreach (var ended in _last.Where(entry => entry.Value.IsCompleted).Select(entry => entry.Key).ToArray())
        {
            _last.Remove(ended);
        }

        var key = (request.Model, sequence);
        _last[key] = EndAsync(AnswerAsync(request, _last.GetValueOrDefault(key, Task.CompletedTask)));
    }

    private async Task EndAsync(Task answer)
    {
        try
        {
            await answer.ConfigureAwait(false);
        }
        catch (Exception gone) when (gone is OperationCanceledException or InvalidOperationException or IOException or RpcException)
        {
            // The call has ended; there is nobody to answer.
        }
        finally
        {
            _places.Release();
        }
    }

    private async Task AnswerAsync(InferenceRequest request, Task before)
    {
        await before.ConfigureAwait(false);
        try
        {
            await foreach (var response in models.InferAsync(request, _ending.Token).ConfigureAwait(false))
            {
                await WriteAsync(new ModelStreamInferResponse { InferResponse = WireTensors.Write(request, response) }).ConfigureAwait(false);
            }

            if (request.Parameters.EmptyFinalResponse)
            {
                var final = new InferenceResponse { Outputs = [], Parameters = new Dictionary<string, object> { ["triton_final_response"] = true } };
                await WriteAsync(new ModelStreamInferResponse { InferResponse = WireTensors.Write(request, final) }).ConfigureAwait(false);
            }
        }
        catch (FailureException failed)
        {
            await RefuseAsync(request.Id, failed).ConfigureAwait(false);
        }
    }

    private async Task RefuseAsync(string id, FailureException failed)
    {
        if (endsOnError)
        {
            _error ??= failed;
            await _ending.CancelAsync().ConfigureAwait(false);
            return;
        }

        await WriteAsync(new ModelStreamInferResponse { ErrorMessage = ErrorText.Of(failed.Failure.Message), InferResponse = new ModelInferResponse { Id = id } }).ConfigureAwait(false);
    }

    private async Task WriteAsync(ModelStreamInferResponse response)
    {
        await _writing.WaitAsync(_ending.Token).ConfigureAwait(false);
        try
        {
            await responses.WriteAsync(response, cancel).WaitAsync(options.ReplyTimeout, cancel).ConfigureAwait(false);
        }
        finally
        {
            _writing.Release();
        }
    }
}
