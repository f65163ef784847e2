using System.Text.Json.Nodes;
using TorchSharp;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Engine.Onnx;
using TtaService.Engine.Streams;
using static TorchSharp.torch;

namespace TtaService.Engine.Tests;

/// <summary>One stream at one site, stepped through the real forward pass.</summary>
internal sealed unsafe class SiteRunner : IDisposable
{
    private readonly NormalizationSite _site;
    private readonly MethodRuntime _runtime;
    private readonly HostArena _arena;
    private int _row;
    private long _frames;

    public SiteRunner(NormalizationSite site, string method, JsonObject? hyperparameters = null, ulong seed = 0)
    {
        _site = site;
        _runtime = new MethodRuntime(MethodSettings.Create(method, hyperparameters), new MethodTarget([site]), modelKey: 1);
        _arena = (HostArena)_runtime.Arena;
        _row = _arena.Rent();
        _runtime.Initialize(_arena.Row(_row), seed);
    }

    public int Threads { get; init; } = 1;

    /// <summary>Goes by torch operators, as on other devices.</summary>
    public bool OnDevice { get; init; }

    /// <summary>A tensor of the state, by its name without the site.</summary>
    public Span<float> State(string name)
    {
        var tensor = _runtime.Layout.Tensors.Single(t => t.Name == $"{_site.Name}.{name}");
        return _arena.Row(_row).Slice(tensor.Offset, tensor.Length);
    }

    /// <summary>Normalizes a step and commits its state; x has the given shape, row-major.</summary>
    public float[] Step(float[] x, long[] shape, bool channelsLast = true, float[]? residual = null, Epilogue? epilogue = null)
    {
        using var scope = NewDisposeScope();
        var input = Layout(tensor(x, shape), channelsLast);
        var other = residual is null ? null : Layout(tensor(residual, shape), !channelsLast);
        var y = OnDevice
            ? StepOnDevice(input, other, epilogue ?? Epilogue.None)
            : StepInMemory(input, other, epilogue ?? Epilogue.None);
        _frames += shape[0];
        return y.to_type(ScalarType.Float32).contiguous().data<float>().ToArray();
    }

    public void Dispose() => _runtime.Dispose();

    private Tensor StepInMemory(Tensor input, Tensor? residual, Epilogue epilogue)
    {
        var next = _arena.Rent();
        var step = new StepInPass(_runtime, 0, (int)input.shape[0], _frames, _arena.Pointer(_row), _arena.Pointer(next));
        var y = new ForwardPass([step], Threads).Normalize(_site, input, mayOverwrite: true, residual, epilogue);
        (_row, next) = (next, _row);
        _arena.Return(next);
        return y;
    }

    private Tensor StepOnDevice(Tensor input, Tensor? residual, Epilogue epilogue)
    {
        var frames = (int)input.shape[0];
        var figures = _runtime.Method.StepFigures(frames, _frames);
        var state = tensor(_arena.Row(_row).ToArray(), [1, _arena.RowFloats]);
        var group = new StepGroup
        {
            Runtime = _runtime,
            FirstFrame = 0,
            Steps = 1,
            Frames = frames,
            State = state,
            Next = state.clone(),
            Figures = tensor(figures, [1, figures.Length]),
            Observation = null,
        };
        using var parameters = new SiteParameters(_site, CPU);
        var y = new DevicePass([group], [parameters]).Normalize(_site, input, mayOverwrite: true, residual, epilogue);
        if (_arena.RowFloats > 0)
        {
            group.Next.data<float>().ToArray().CopyTo(_arena.Row(_row));
        }

        return y;
    }

    private static Tensor Layout(Tensor x, bool channelsLast) =>
        channelsLast && x.dim() == 4 ? x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) : x;
}

internal static class Close
{
    /// <summary>Fails with the worst element when any differs by more than the tolerance.</summary>
    public static void Assert(ReadOnlySpan<float> expected, ReadOnlySpan<float> actual, double tolerance, string what)
    {
        Xunit.Assert.Equal(expected.Length, actual.Length);
        var worst = 0;
        for (var i = 0; i < expected.Length; i++)
        {
            if (!(Math.Abs((double)expected[i] - actual[i]) <= Math.Abs((double)expected[worst] - actual[worst])))
            {
                worst = i;
            }
        }

        var difference = expected.Length == 0 ? 0 : Math.Abs((double)expected[worst] - actual[worst]);
        if (!(difference <= tolerance))
        {
            Xunit.Assert.Fail($"{what}: element {worst} is {actual[worst]:R}, expected {expected[worst]:R}, off by {difference:R} (limit {tolerance:R})");
        }
    }
}
