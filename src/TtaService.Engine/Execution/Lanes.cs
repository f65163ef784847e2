using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace TtaService.Engine.Execution;

/// <summary>A group of neighbouring channels that one instruction handles; the kernels are written once over it.</summary>
internal unsafe interface ILanes<T>
    where T : struct, ILanes<T>
{
    static abstract int Width { get; }

    static abstract T Load(float* source);

    static abstract T Broadcast(float value);

    void Store(float* destination);

    static abstract T Add(T a, T b);

    static abstract T Subtract(T a, T b);

    /// <summary>a * b + c, rounded once.</summary>
    static abstract T MultiplyAdd(T a, T b, T c);

    /// <summary>Within the bounds; NaN stays NaN.</summary>
    static abstract T Clamp(T value, T minimum, T maximum);
}

internal readonly unsafe struct Lanes512(Vector512<float> value) : ILanes<Lanes512>
{
    private readonly Vector512<float> _value = value;

    public static int Width => 16;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes512 Load(float* source) => new(Vector512.Load(source));

    public static Lanes512 Broadcast(float value) => new(Vector512.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => _value.Store(destination);

    public static Lanes512 Add(Lanes512 a, Lanes512 b) => new(a._value + b._value);

    public static Lanes512 Subtract(Lanes512 a, Lanes512 b) => new(a._value - b._value);

    public static Lanes512 MultiplyAdd(Lanes512 a, Lanes512 b, Lanes512 c) => new(Vector512.FusedMultiplyAdd(a._value, b._value, c._value));

    public static Lanes512 Clamp(Lanes512 value, Lanes512 minimum, Lanes512 maximum) => new(Vector512.Min(Vector512.Max(value._value, minimum._value), maximum._value));
}

internal readonly unsafe struct Lanes256(Vector256<float> value) : ILanes<Lanes256>
{
    private readonly Vector256<float> _value = value;

    public static int Width => 8;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes256 Load(float* source) => new(Vector256.Load(source));

    public static Lanes256 Broadcast(float value) => new(Vector256.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => _value.Store(destination);

    public static Lanes256 Add(Lanes256 a, Lanes256 b) => new(a._value + b._value);

    public static Lanes256 Subtract(Lanes256 a, Lanes256 b) => new(a._value - b._value);

    public static Lanes256 MultiplyAdd(Lanes256 a, Lanes256 b, Lanes256 c) => new(Vector256.FusedMultiplyAdd(a._value, b._value, c._value));

    public static Lanes256 Clamp(Lanes256 value, Lanes256 minimum, Lanes256 maximum) => new(Vector256.Min(Vector256.Max(value._value, minimum._value), maximum._value));
}

internal readonly unsafe struct Lanes128(Vector128<float> value) : ILanes<Lanes128>
{
    private readonly Vector128<float> _value = value;

    public static int Width => 4;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Lanes128 Load(float* source) => new(Vector128.Load(source));

    public static Lanes128 Broadcast(float value) => new(Vector128.Create(value));

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Store(float* destination) => _value.Store(destination);

    public static Lanes128 Add(Lanes128 a, Lanes128 b) => new(a._value + b._value);

    public static Lanes128 Subtract(Lanes128 a, Lanes128 b) => new(a._value - b._value);

    public static Lanes128 MultiplyAdd(Lanes128 a, Lanes128 b, Lanes128 c) => new(Vector128.FusedMultiplyAdd(a._value, b._value, c._value));

    public static Lanes128 Clamp(Lanes128 value, Lanes128 minimum, Lanes128 maximum) => new(Vector128.Min(Vector128.Max(value._value, minimum._value), maximum._value));
}

/// <summary>One channel: the tail that no vector covers.</summary>
internal readonly unsafe struct SingleLane(float value) : ILanes<SingleLane>
{
    private readonly float _value = value;

    public static int Width => 1;

    public static SingleLane Load(float* source) => new(*source);

    public static SingleLane Broadcast(float value) => new(value);

    public void Store(float* destination) => *destination = _value;

    public static SingleLane Add(SingleLane a, SingleLane b) => new(a._value + b._value);

    public static SingleLane Subtract(SingleLane a, SingleLane b) => new(a._value - b._value);

    public static SingleLane MultiplyAdd(SingleLane a, SingleLane b, SingleLane c) => new(MathF.FusedMultiplyAdd(a._value, b._value, c._value));

    public static SingleLane Clamp(SingleLane value, SingleLane minimum, SingleLane maximum) => new(MathF.Min(MathF.Max(value._value, minimum._value), maximum._value));
}
