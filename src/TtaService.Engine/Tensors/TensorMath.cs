using TorchSharp;
using static TorchSharp.torch;

namespace TtaService.Engine.Tensors;

/// <summary>The arithmetic of tensors that needs a number, with the native number alive until the call has ended.</summary>
/// <remarks>TorchSharp's own operators make a temporary <see cref="Scalar"/> (a + b makes one for alpha) that nothing holds while native code reads it: its finalizer can
/// free it in between,
/// and the result is wrong or the process ends. Nothing else in the engine calls what does so; TemporaryScalarTests reads the assembly for it, and the compiler bans what
/// is used most.</remarks>
public static class TensorMath
{
    /// <summary>a + b.</summary>
    public static Tensor Plus(this Tensor a, Tensor b)
    {
        using var alpha = 1.ToScalar();
        return a.add(b, alpha);
    }

    /// <summary>a + number.</summary>
    public static Tensor Plus(this Tensor a, double number)
    {
        using var alpha = 1.ToScalar();
        using var scalar = number.ToScalar();
        return a.add(scalar, alpha);
    }

    /// <summary>a + number; integers stay integers.</summary>
    public static Tensor Plus(this Tensor a, long number)
    {
        using var alpha = 1.ToScalar();
        using var scalar = number.ToScalar();
        return a.add(scalar, alpha);
    }

    /// <summary>a += b.</summary>
    public static Tensor AddInPlace(this Tensor a, Tensor b)
    {
        using var alpha = 1.ToScalar();
        return a.add_(b, alpha);
    }

    /// <summary>a + weight * b.</summary>
    public static Tensor AddScaled(this Tensor a, Tensor b, double weight)
    {
        using var alpha = weight.ToScalar();
        return a.add(b, alpha);
    }

    /// <summary>a + b * c.</summary>
    public static Tensor AddProduct(this Tensor a, Tensor b, Tensor c)
    {
        using var weight = 1.ToScalar();
        return addcmul(a, b, c, weight);
    }

    /// <summary>a += weight * b * c.</summary>
    public static Tensor AddProductInPlace(this Tensor a, Tensor b, Tensor c, double weight)
    {
        using var scalar = weight.ToScalar();
        return a.addcmul_(b, c, scalar);
    }

    /// <summary>a - number.</summary>
    public static Tensor Minus(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.sub(scalar);
    }

    /// <summary>1 - a.</summary>
    public static Tensor OneMinus(this Tensor a)
    {
        using var negative = a.neg();
        return negative.Plus(1L);
    }

    /// <summary>a * number.</summary>
    public static Tensor Times(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.mul(scalar);
    }

    /// <summary>a *= number.</summary>
    public static Tensor MultiplyInPlace(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.mul_(scalar);
    }

    /// <summary>a / number.</summary>
    public static Tensor Over(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.div(scalar);
    }

    /// <summary>a / number; of integers a fraction.</summary>
    public static Tensor Over(this Tensor a, long number)
    {
        using var scalar = number.ToScalar();
        return a.div(scalar);
    }

    /// <summary>a /= number.</summary>
    public static Tensor DivideInPlace(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.div_(scalar);
    }

    /// <summary>a * a.</summary>
    public static Tensor Squared(this Tensor a) => a.mul(a);

    /// <summary>a to the power of a number.</summary>
    public static Tensor Power(this Tensor a, double exponent)
    {
        using var scalar = exponent.ToScalar();
        return a.pow(scalar);
    }

    /// <summary>a to the power of a whole number; integers stay integers.</summary>
    internal static Tensor Power(this Tensor a, long exponent)
    {
        using var scalar = exponent.ToScalar();
        return a.pow(scalar);
    }

    /// <summary>a &lt; number, element by element.</summary>
    public static Tensor IsLess(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.lt(scalar);
    }

    /// <summary>a &lt; number, element by element.</summary>
    internal static Tensor IsLess(this Tensor a, long number)
    {
        using var scalar = number.ToScalar();
        return a.lt(scalar);
    }

    /// <summary>a &lt;= number, element by element.</summary>
    public static Tensor IsAtMost(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.le(scalar);
    }

    /// <summary>a &gt; number, element by element.</summary>
    public static Tensor IsGreater(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.gt(scalar);
    }

    /// <summary>The larger of a and number.</summary>
    public static Tensor AtLeast(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.clamp_min(scalar);
    }

    /// <summary>The larger of a and number, in place.</summary>
    public static Tensor AtLeastInPlace(this Tensor a, double number)
    {
        using var scalar = number.ToScalar();
        return a.clamp_min_(scalar);
    }

    /// <summary>Within the bounds; infinity is none.</summary>
    public static Tensor ClampInPlace(this Tensor a, double minimum, double maximum)
    {
        using var low = double.IsNegativeInfinity(minimum) ? null : minimum.ToScalar();
        using var high = double.IsPositiveInfinity(maximum) ? null : maximum.ToScalar();
        return low is null && high is null ? a : a.clamp_(low, high);
    }

    /// <summary>Within bounds that are tensors of one value; null is none.</summary>
    internal static Tensor Clamp(this Tensor a, Tensor? minimum, Tensor? maximum)
    {
        using var low = minimum?.ToScalar();
        using var high = maximum?.ToScalar();
        return low is null && high is null ? a.alias() : a.clamp(low, high);
    }

    /// <summary>start, start + step, … below the limit, from tensors of one value each, of start's type.</summary>
    internal static Tensor Steps(Tensor start, Tensor limit, Tensor step)
    {
        using var first = start.ToScalar();
        using var last = limit.ToScalar();
        using var each = step.ToScalar();
        return arange(first, last, each, dtype: start.dtype);
    }

    /// <summary>a where positive, slope * a elsewhere.</summary>
    internal static Tensor LeakyRelu(this Tensor a, double slope)
    {
        using var scalar = slope.ToScalar();
        return a.leaky_relu(scalar);
    }

    /// <summary>scale * (a where positive, alpha * (exp(a) - 1) elsewhere).</summary>
    internal static Tensor Elu(this Tensor a, double alpha, double scale = 1)
    {
        using var slope = alpha.ToScalar();
        using var factor = scale.ToScalar();
        using var one = 1.ToScalar();
        return a.elu(slope, factor, one);
    }

    /// <summary>max(0, a) + min(0, alpha * (exp(a / alpha) - 1)).</summary>
    internal static Tensor Celu(this Tensor a, double alpha)
    {
        using var scalar = alpha.ToScalar();
        return a.celu(scalar);
    }

    /// <summary>ln(1 + exp(a)), without overflow.</summary>
    internal static Tensor Softplus(this Tensor a)
    {
        using var decay = a.abs().neg().exp();
        using var rest = decay.log1p();
        using var positive = a.relu();
        // Nothing in place: gradients pass here, and need what each operator gave.
        return positive.Plus(rest);
    }
}
