namespace TtaService.Host.Inference.Conformance;

/// <summary>OUTPUT0 = INPUT0, texts.</summary>
internal sealed class IdentityModel : IInferenceModel
{
    public InferenceModelDescription Description { get; } = new()
    {
        Name = "simple_identity",
        Platform = "tta_conformance",
        MaxBatch = ConformanceModels.MaxBatch,
        Inputs = [new TensorDescription("INPUT0", Datatype.Bytes, [-1, -1])],
        Outputs = [new TensorDescription("OUTPUT0", Datatype.Bytes, [-1, -1])],
    };

    public async IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        await Task.CompletedTask.ConfigureAwait(false);
        var input = ConformanceModels.Fitting(Description, request)[0];
        yield return ConformanceModels.Answer(Description, request, Tensor.Read("OUTPUT0", Datatype.Bytes, input.Shape, input.Data));
    }
}
