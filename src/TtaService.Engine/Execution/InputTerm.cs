namespace TtaService.Engine.Execution;

/// <summary>What a number that a model is fed beside the image stands for.</summary>
public enum InputQuantity
{
    /// <summary>Itself, the same for every frame.</summary>
    Constant,

    /// <summary>The height of the image input in pixels.</summary>
    Height,

    /// <summary>The width of the image input in pixels.</summary>
    Width,
}

/// <summary>A number that a model is fed beside the image.</summary>
/// <param name="Quantity">What it stands for.</param>
/// <param name="Value">Of a constant.</param>
public readonly record struct InputTerm(InputQuantity Quantity, float Value = 0)
{
    /// <summary>The number for an image input of this size.</summary>
    internal float Of(int height, int width) => Quantity switch
    {
        InputQuantity.Height => height,
        InputQuantity.Width => width,
        _ => Value,
    };
}
