using Grpc.Core;
using Microsoft.Extensions.Options;
using TtaService.Host.Grpc;
using TtaService.Inference;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The Open Inference Protocol over gRPC.</summary>
internal sealed class InferenceService(InferenceModels models, InferenceServer server, IOptions<StreamsOptions> streams) : GRPCInferenceService.GRPCInferenceServiceBase
{
    public override Task<ServerLiveResponse> ServerLive(ServerLiveRequest request, ServerCallContext context) => Task.FromResult(new ServerLiveResponse { Live = true });

    public override async Task<ServerReadyResponse> ServerReady(ServerReadyRequest request, ServerCallContext context) =>
        new() { Ready = await server.IsReadyAsync(context.CancellationToken).ConfigureAwait(false) };

    public override Task<ModelReadyResponse> ModelReady(ModelReadyRequest request, ServerCallContext context) =>
        Task.FromResult(new ModelReadyResponse { Ready = models.IsReady(request.Name, request.Version) });

    public override Task<ServerMetadataResponse> ServerMetadata(ServerMetadataRequest request, ServerCallContext context)
    {
        var response = new ServerMetadataResponse { Name = server.Name, Version = InferenceServer.ProgramVersion };
        response.Extensions.AddRange(InferenceServer.Extensions);
        return Task.FromResult(response);
    }

    public override Task<ModelMetadataResponse> ModelMetadata(ModelMetadataRequest request, ServerCallContext context)
    {
        var model = models.Find(request.Name, request.Version).Description;
        var response = new ModelMetadataResponse { Name = model.Name, Versions = { model.Version }, Platform = model.Platform };
        response.Inputs.AddRange(model.Inputs.Select(Describe));
        response.Outputs.AddRange(model.Outputs.Select(Describe));
        return Task.FromResult(response);
    }

    public override Task<ModelConfigResponse> ModelConfig(ModelConfigRequest request, ServerCallContext context) =>
        Task.FromResult(new ModelConfigResponse { Config = ModelConfigs.Of(models.Find(request.Name, request.Version).Description) });

    public override Task<ModelStatisticsResponse> ModelStatistics(ModelStatisticsRequest request, ServerCallContext context)
    {
        var response = new ModelStatisticsResponse();
        response.ModelStats.AddRange(models.Statistics(request.Name, request.Version));
        return Task.FromResult(response);
    }

    public override Task<RepositoryIndexResponse> RepositoryIndex(RepositoryIndexRequest request, ServerCallContext context)
    {
        var response = new RepositoryIndexResponse();
        foreach (var (name, version, reason) in models.Index())
        {
            if (reason.Length == 0 || !request.Ready)
            {
                response.Models.Add(new RepositoryIndexResponse.Types.ModelIndex
                {
                    Name = name,
                    Version = version,
                    State = reason.Length == 0 ? "READY" : "UNAVAILABLE",
                    Reason = reason,
                });
            }
        }

        return Task.FromResult(response);
    }

    public override async Task<RepositoryModelLoadResponse> RepositoryModelLoad(RepositoryModelLoadRequest request, ServerCallContext context)
    {
        await models.LoadAsync(request.ModelName, [.. request.Parameters.Keys]).ConfigureAwait(false);
        return new RepositoryModelLoadResponse();
    }

    public override async Task<RepositoryModelUnloadResponse> RepositoryModelUnload(RepositoryModelUnloadRequest request, ServerCallContext context)
    {
        await models.UnloadAsync(request.ModelName).ConfigureAwait(false);
        return new RepositoryModelUnloadResponse();
    }

    public override async Task<ModelInferResponse> ModelInfer(ModelInferRequest request, ServerCallContext context)
    {
        var read = WireTensors.Read(request, StreamRequests.ClientOf(context));
        RequestMessages.Current?.HandOver();
        return WireTensors.Write(read, await models.InferOnceAsync(read, context.CancellationToken).ConfigureAwait(false));
    }

    public override async Task ModelStreamInfer(
        IAsyncStreamReader<ModelInferRequest> requestStream,
        IServerStreamWriter<ModelStreamInferResponse> responseStream,
        ServerCallContext context)
    {
        var endsOnError = context.RequestHeaders.GetValue("triton_grpc_error") is "true" or "1";
        using var call = new InferenceCall(models, responseStream, streams.Value, StreamRequests.ClientOf(context), endsOnError, context.CancellationToken);
        await call.RunAsync(requestStream).ConfigureAwait(false);
    }

    private static ModelMetadataResponse.Types.TensorMetadata Describe(TensorDescription tensor)
    {
        var metadata = new ModelMetadataResponse.Types.TensorMetadata { Name = tensor.Name, Datatype = tensor.Datatype.Name() };
        metadata.Shape.AddRange(tensor.Shape);
        return metadata;
    }
}
