using Microsoft.Extensions.Options;
using TtaService.Engine.Onnx;
using TtaService.Serving.Models;

namespace TtaService.Serving.Streams.Loading;

/// <summary>Loads the models before the listeners open. A model that can't be served is named with its reason; when none is left, that ends the start.</summary>
internal sealed partial class ModelLoading(ModelCatalog catalog, ModelLoader loader, IOptions<ModelsOptions> models, ILogger<ModelLoading> logger) : IHostedService
{
    public async Task StartAsync(CancellationToken cancellationToken)
    {
        var content = ModelRepository.Load(Path.GetFullPath(models.Value.Path));
        foreach (var broken in content.Broken)
        {
            Refuse(broken);
        }

        foreach (var folder in content.Models)
        {
            try
            {
                catalog.Put(await loader.LoadAsync(folder).ConfigureAwait(false));
            }
            catch (ModelRefusedException refused)
            {
                Refuse(refused.Model);
            }
        }

        if (catalog.Broken.Count > 0 && (models.Value.FailOnBroken || catalog.All.Count == 0))
        {
            var reasons = string.Join("; ", catalog.Broken.Select(broken => $"{broken.Name}: {broken.Reason}"));
            throw new ModelLoadException(catalog.All.Count == 0 ? $"no model can be served: {reasons}" : $"{reasons} (Models:FailOnBroken is true)");
        }
    }

    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    private void Refuse(BrokenModel broken)
    {
        catalog.Add(broken);
        Log.ModelBroken(logger, broken.Name, broken.Reason);
    }

    private static partial class Log
    {
        [LoggerMessage(EventId = 31, Level = LogLevel.Warning, Message = "ModelBroken {Model} is not served: {Reason}")]
        public static partial void ModelBroken(ILogger logger, string model, string reason);
    }
}
