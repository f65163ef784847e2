using System.Reflection;
using System.Reflection.Emit;
using TorchSharp;
using TtaService.Engine.Execution;

namespace TtaService.Engine.Tests.Tensors;

/// <summary>No call of the engine leaves a native scalar to the finalizer while native code reads it: what makes scalars is read from the instructions of TorchSharp
/// itself.</summary>
public sealed class TemporaryScalarTests
{
    private const BindingFlags Declared = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    private static readonly Dictionary<ushort, OpCode> OpCodesByValue = typeof(OpCodes).GetFields(BindingFlags.Public | BindingFlags.Static)
        .Select(field => (OpCode)field.GetValue(null)!).ToDictionary(code => (ushort)code.Value);

    // They make scalars, dispose of them behind the call, and hand over nothing else.
    private static readonly string[] Keepers = ["TtaService.Engine.Tensors.TensorMath", "TtaService.Engine.Onnx.ConvolutionScript"];

    [Fact]
    public void Engine_EveryCallOfTorchSharp_MakesNoScalarThatNothingHolds()
    {
        var makers = Makers();
        Assert.Contains(
            makers, maker => maker.StartsWith("TorchSharp.torch+Tensor::", StringComparison.Ordinal) && maker.Contains("op_Addition(Tensor, Tensor)", StringComparison.Ordinal));
        Assert.DoesNotContain(makers, maker => maker.Contains("op_Subtraction(Tensor, Tensor)", StringComparison.Ordinal));

        var calls = new List<string>();
        foreach (var method in Methods(typeof(AdaptiveModel).Assembly).Where(method => !Keepers.Contains(method.DeclaringType!.FullName)))
        {
            calls.AddRange(Calls(method).Where(call => makers.Contains(Key(call))).Select(call => $"{Key(method)} calls {Key(call)}: use TensorMath"));
        }

        Assert.True(calls.Count == 0, string.Join('\n', calls));
    }

    /// <summary>In a keeper, too, only what takes scalars is called with them, never what makes its own.</summary>
    [Fact]
    public void Keepers_EveryCallOfTorchSharp_TakesTheirScalars()
    {
        var makers = Makers();
        var calls = Methods(typeof(AdaptiveModel).Assembly)
            .Where(method => Keepers.Contains(method.DeclaringType!.FullName))
            .SelectMany(method => Calls(method).Where(call => makers.Contains(Key(call))).Select(call => (Method: method.Name, Call: call)))
            .Where(call => call.Call.Name != "ToScalar")
            .Select(call => $"{call.Method} calls {Key(call.Call)}")
            .ToList();

        // It is given tensors and scalars only, for which it makes none.
        Assert.All(calls, call => Assert.StartsWith("Invoke calls TorchSharp.torch+jit+ScriptModule::", call));
    }

    // Every method of TorchSharp that makes a scalar, itself or through others of it.
    private static HashSet<string> Makers()
    {
        var calls = Methods(typeof(torch).Assembly).DistinctBy(Key).ToDictionary(Key, method => Calls(method).Select(Key).ToHashSet());
        var makers = calls.Keys.Where(key => key.StartsWith("TorchSharp.Scalar::Void .ctor", StringComparison.Ordinal)).ToHashSet();
        while (calls.Where(method => !makers.Contains(method.Key) && method.Value.Overlaps(makers)).Select(method => method.Key).ToList() is { Count: > 0 } more)
        {
            makers.UnionWith(more);
        }

        return makers;
    }

    private static IEnumerable<MethodBase> Methods(Assembly assembly) =>
        assembly.GetTypes().SelectMany(type => type.GetMethods(Declared).Concat<MethodBase>(type.GetConstructors(Declared)));

    private static string Key(MethodBase method) => $"{method.DeclaringType?.FullName}::{method}";

    private static List<MethodBase> Calls(MethodBase method)
    {
        var calls = new List<MethodBase>();
        var code = method.GetMethodBody()?.GetILAsByteArray() ?? [];
        for (var at = 0; at < code.Length;)
        {
            ushort value = code[at++];
            var op = OpCodesByValue[value == 0xFE ? (ushort)(0xFE00 | code[at++]) : value];
            if (op.OperandType is OperandType.InlineMethod or OperandType.InlineTok && Resolve(method, BitConverter.ToInt32(code, at)) is { } call)
            {
                calls.Add(call is MethodInfo { IsGenericMethod: true } generic ? generic.GetGenericMethodDefinition() : call);
            }

            at += op.OperandType switch
            {
                OperandType.InlineNone => 0,
                OperandType.ShortInlineBrTarget or OperandType.ShortInlineI or OperandType.ShortInlineVar => 1,
                OperandType.InlineVar => 2,
                OperandType.InlineI8 or OperandType.InlineR => 8,
                OperandType.InlineSwitch => 4 + (4 * BitConverter.ToInt32(code, at)),
                _ => 4,
            };
        }

        return calls;
    }

    private static MethodBase? Resolve(MethodBase method, int token)
    {
        try
        {
            return method.Module.ResolveMethod(
                token, method.DeclaringType is { IsGenericType: true } type ? type.GetGenericArguments() : null, method.IsGenericMethod ? method.GetGenericArguments() : null);
        }
        catch (ArgumentException)
        {
            // A type or a field.
            return null;
        }
    }
}
