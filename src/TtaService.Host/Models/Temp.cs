using System.Text.Json.Nodes;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
namespace TtaService.Host.Models;
internal sealed record ModelFolder(string Name, string OnnxPath, IReadOnlyList<string> Labels, JsonObject PreprocessingJson, InputNormalization InputNormalization, MethodSettings DefaultMethod);
internal static class ModelRepository { public static IEnumerable<ModelFolder> Load(string p) => Directory.GetDirectories(p).Select(d => new ModelFolder(Path.GetFileName(d), Path.Combine(d, "model.onnx"), ["ant", "bee", "cat", "dog", "eel"], new JsonObject(), InputNormalization.ImageNet, MethodSettings.Create("unmix_tns"))); }
