using TtaService.Engine.Normalization;
using static TorchSharp.torch;
namespace TtaService.Engine.Onnx;

public sealed record GraphValue(string Name, IReadOnlyList<long> Shape, ScalarType Type);
public sealed class ModelGraph : IDisposable
{
    public static ModelGraph Load(string path, Device device) => throw new NotSupportedException(path);
    public string Digest { get; } = "";
    public IReadOnlyList<GraphValue> Inputs { get; } = [];
    public IReadOnlyList<GraphValue> Outputs { get; } = [];
    public IReadOnlyList<NormalizationSite> Sites { get; } = [];
    internal Tensor[] Run(IReadOnlyList<Tensor> inputs, ISiteNormalizer? sites) => Sites.Count == 0 ? [] : [inputs[0]];
    public void Dispose() { }
}
