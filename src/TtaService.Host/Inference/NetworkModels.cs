using Microsoft.Extensions.Options;
using TtaService.Host.Grpc;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The served networks as the Open Inference Protocol sees them.</summary>
internal sealed class NetworkModels(StreamDirectory directory, StepReader steps, IOptions<StreamsOptions> options)
{
    public NetworkModel Of(ServedModel model) => new(model, directory, steps, options.Value);
}
