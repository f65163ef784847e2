using System.Reflection;
using TtaService.Client;
using TtaService.Engine.Execution;
using TtaService.Evaluation;
using TtaService.Host.Grpc;
using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.House;

/// <summary>Which project may know which: Engine, then Serving, then Host, Evaluation beside Serving.</summary>
/// <remarks>No protocol, no ASP.NET and no console below Host; the client never brings torch.</remarks>
public sealed class ReferenceTests
{
    private static readonly Assembly Engine = typeof(AdaptiveModel).Assembly;
    private static readonly Assembly Evaluation = typeof(Evaluator).Assembly;
    private static readonly Assembly Serving = typeof(StreamNames).Assembly;
    private static readonly Assembly Host = typeof(RpcErrors).Assembly;
    private static readonly Assembly Client = typeof(AdaptationStream).Assembly;

    [Fact]
    public void Engine_KnowsNeitherServingNorAnyProtocol() =>
        AssertNone(Engine, "TtaService.", "Grpc", "Microsoft.AspNetCore", "OpenTelemetry", "Spectre", "System.CommandLine", "StackExchange", "SkiaSharp");

    [Fact]
    public void Serving_KnowsTheEngineAlone_AndNoProtocol()
    {
        Assert.Contains(Names(Serving), name => name == Engine.GetName().Name);
        AssertNone(
            Serving, "TtaService.Client", "TtaService.Evaluation", "tta", "Grpc", "Google.Protobuf", "Microsoft.AspNetCore", "OpenTelemetry", "Spectre", "System.CommandLine");
    }

    [Fact]
    public void Evaluation_KnowsTheEngineAlone()
    {
        Assert.Contains(Names(Evaluation), name => name == Engine.GetName().Name);
        AssertNone(
            Evaluation, "TtaService.Client", "TtaService.Serving", "tta", "Grpc", "Google.Protobuf", "Microsoft.AspNetCore", "Microsoft.Extensions", "Spectre",
            "System.CommandLine", "SkiaSharp");
    }

    [Fact]
    public void Client_BringsNoTorch() => AssertNone(Client, "TtaService.", "TorchSharp", "Microsoft.AspNetCore", "SkiaSharp");

    [Fact]
    public void Host_ReachesTheEngineThroughServing() => Assert.Contains(Names(Host), name => name == Serving.GetName().Name);

    private static void AssertNone(Assembly assembly, params string[] prefixes) =>
        Assert.DoesNotContain(Names(assembly), name => prefixes.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal)));

    private static IEnumerable<string> Names(Assembly assembly) => assembly.GetReferencedAssemblies().Select(reference => reference.Name!);
}
