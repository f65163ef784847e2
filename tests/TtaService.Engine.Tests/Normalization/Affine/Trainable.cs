using TtaService.Engine.Execution;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Normalization.Affine;

/// <summary>The network and the frames of the golden vectors of affine training (Data/tent/export.py).</summary>
internal static class Trainable
{
    public const int Side = 12;
    public const int FramesOfAStep = 8;

    private static readonly string Folder = Path.Combine(AppContext.BaseDirectory, "Data", "tent");
    private static readonly byte[] File = System.IO.File.ReadAllBytes(Path.Combine(Folder, "steps.safetensors"));

    public static string ModelPath { get; } = Path.Combine(Folder, "model.onnx");

    public static AdaptiveModel Load(AdaptiveModelOptions? options = null) => AdaptiveModel.Load(ModelPath, options ?? new AdaptiveModelOptions());

    public static FrameBlock Frames(int step) => Block(Golden($"frames.{step}"));

    /// <summary>Frames of the golden steps one after another, from a place on.</summary>
    public static FrameBlock Frames(int first, int count) => Block([.. Enumerable.Range(first, count).SelectMany(i => Frame(i).ToArray())]);

    public static FrameBlock Block(float[] values) => FrameBlock.FromValues(values, values.Length / (3 * Side * Side), 3, Side, Side);

    public static float[] Golden(string name) => Tensor(File, name);

    public static float[] Tensor(byte[] file, string name)
    {
        var content = Safetensors.Read(file);
        var values = new float[content.Shape(name).Aggregate(1, (product, extent) => product * extent)];
        content.CopyTo(file, name, values);
        return values;
    }

    private static ArraySegment<float> Frame(int index)
    {
        var floats = 3 * Side * Side;
        return new ArraySegment<float>(Golden($"frames.{index / FramesOfAStep % 6}"), index % FramesOfAStep * floats, floats);
    }
}
