using System.Numerics.Tensors;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Answers;

/// <summary>Reads an embedding model's output.</summary>
public static class Embeddings
{
    /// <summary>A frame's vector at length 1; all zeros stay as they are.</summary>
    public static float[] Read(OutputTensor output, int frame)
    {
        var vector = output.OfFrame(frame).ToArray();
        // By its largest value first, so that squares neither overflow nor vanish.
        var largest = vector.Length == 0 ? 0 : Math.Abs(TensorPrimitives.MaxMagnitude<float>(vector));
        if (largest > 0)
        {
            TensorPrimitives.Divide(vector, largest, vector);
            TensorPrimitives.Divide(vector, TensorPrimitives.Norm<float>(vector), vector);
        }

        return vector;
    }
}
