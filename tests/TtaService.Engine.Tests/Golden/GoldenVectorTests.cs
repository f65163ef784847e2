using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;

namespace TtaService.Engine.Tests.Golden;

/// <summary>Every golden case of the reference code, outputs and states, step after step. TTA_GOLDEN_DIR names another folder to test.</summary>
public sealed class GoldenVectorTests
{
    private static readonly string Root = Environment.GetEnvironmentVariable("TTA_GOLDEN_DIR") is { Length: > 0 } folder
        ? folder
        : Path.Combine(AppContext.BaseDirectory, "Data", "golden");

    private static string Layer => File.Exists(Path.Combine(Root, "index.json")) ? Root : Path.Combine(Root, "layer");

    public static TheoryData<string> Cases()
    {
        using var index = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Layer, "index.json")));
        return [.. index.RootElement.GetProperty("cases").EnumerateArray().Select(c => c.GetProperty("name").GetString()!)];
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Method_GoldenCase_AgreesWithReference(string name)
    {
        Check(name, channelsLast: true, threads: 1);
        Check(name, channelsLast: false, threads: 1);
        Check(name, channelsLast: true, threads: 2);
        Check(name, channelsLast: true, threads: 1, onDevice: true);
    }

    private static void Check(string name, bool channelsLast, int threads, bool onDevice = false)
    {
        using var index = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(Layer, "index.json")));
        var test = index.RootElement.GetProperty("cases").EnumerateArray().Single(c => c.GetProperty("name").GetString() == name);
        var file = File.ReadAllBytes(Path.Combine(Layer, test.GetProperty("safetensors").GetString()!));
        var tensors = Safetensors.Read(file);
        var (method, hyperparameters, stateNames) = Settings(test.GetProperty("method").GetString()!, test.GetProperty("hyperparameters"));
        var momentum = test.GetProperty("hyperparameters").TryGetProperty("bn_momentum", out var m) ? m.GetSingle() : 0.1f;
        var site = new NormalizationSite(0, "site", test.GetProperty("eps").GetSingle(), momentum, Read("weight"), Read("bias"), Read("running_mean"), Read("running_var"));
        using var runner = new SiteRunner(site, method, hyperparameters) { Threads = threads, OnDevice = onDevice };
        foreach (var (golden, ours) in stateNames)
        {
            Read($"state.{golden}.init").CopyTo(runner.State(ours));
        }

        // Where float32 loses digits in the reference itself, its own error is the measure (README of the vectors).
        var large = test.GetProperty("large_offset").GetBoolean();
        var tolerance = large ? Math.Max(1e-4, test.GetProperty("max_abs_diff_y_ref32").GetDouble()) : 1e-4;
        var stateTolerance = large ? Math.Max(1e-4, test.GetProperty("max_abs_diff_state_ref32").GetDouble()) : 1e-4;
        for (var step = 0; step < test.GetProperty("steps").GetInt32(); step++)
        {
            long[] shape = [.. tensors.Shape($"x.{step}").Select(extent => (long)extent)];
            var y = runner.Step(Read($"x.{step}"), shape, channelsLast);
            Close.Assert(Read($"y.{step}"), y, tolerance, $"{name} step {step} output");
            foreach (var (golden, ours) in stateNames)
            {
                Close.Assert(Read($"state.{golden}.{step}"), runner.State(ours), stateTolerance, $"{name} step {step} {golden}");
            }
        }

        float[] Read(string tensor)
        {
            var values = new float[tensors.Shape(tensor).Aggregate(1, (product, extent) => product * extent)];
            tensors.CopyTo(file, tensor, values);
            return values;
        }
    }

    // The reference's names and conventions in ours.
    private static (string Method, JsonObject Hyperparameters, (string Golden, string Ours)[] State) Settings(string method, JsonElement given) => method switch
    {
        "source" => ("source", [], []),
        "tbn" => ("tbn", new JsonObject { ["min_frames"] = 1 }, []),
        "alpha_bn" => ("alpha_bn", new JsonObject { ["test_weight"] = given.GetProperty("alpha").GetDouble(), ["variance"] = "unbiased" }, []),
        "ema_bn" => (
            "ema",
            new JsonObject { ["momentum"] = given.GetProperty("momentum").GetDouble(), ["reference_frames"] = 0, ["variance"] = "unbiased" },
            [("mean", "ema_mean"), ("var", "ema_var")]),
        "unmix_tns" => (
            "unmix_tns",
            new JsonObject
            {
                ["components"] = given.GetProperty("components").GetInt32(),
                ["temperature"] = given.GetProperty("temperature").GetDouble(),
                ["batch_size"] = given.GetProperty("batch_size").GetInt32(),
                ["batch_size_max"] = given.GetProperty("batch_size_max").GetInt32(),
            },
            [("component_mean", "component_mean"), ("component_var", "component_var")]),
        _ => throw new InvalidDataException($"golden method '{method}' is not known"),
    };
}
