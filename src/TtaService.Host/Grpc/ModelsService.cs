using Grpc.Core;
using TtaService.Serving.Front;
using TtaService.V1;

namespace TtaService.Host.Grpc;

/// <summary>The models that are served and what their streams can ask for.</summary>
internal sealed class ModelsService(IServedModels models) : V1.ModelsService.ModelsServiceBase
{
    public override Task<ListModelsResponse> ListModels(ListModelsRequest request, ServerCallContext context) => Task.FromResult(ModelReplies.All(models));

    public override Task<Model> GetModel(GetModelRequest request, ServerCallContext context) => Task.FromResult(ModelReplies.Whole(models, models.Find(request.Name).OrThrow()));

    public override async Task<Model> LoadModel(LoadModelRequest request, ServerCallContext context) =>
        ModelReplies.Whole(models, (await models.LoadAsync(request.Name).ConfigureAwait(false)).OrThrow());

    public override async Task<UnloadModelResponse> UnloadModel(UnloadModelRequest request, ServerCallContext context)
    {
        _ = (await models.UnloadAsync(request.Name).ConfigureAwait(false)).OrThrow();
        return new UnloadModelResponse();
    }
}
