using TtaService.Engine.Execution;

namespace TtaService.Benchmarks;

/// <summary>What to run, and how long.</summary>
internal sealed record BenchmarkOptions
{
    public IReadOnlyList<string> Models { get; init; } = ["resnet18", "resnet50"];

    public IReadOnlyList<int> Batches { get; init; } = [1, 8, 16];

    public IReadOnlyList<int> Streams { get; init; } = [4, 16, 64];

    /// <summary>Height and width of a frame.</summary>
    public int Size { get; init; } = 224;

    public int Threads { get; init; } = 1;

    /// <summary>Where the engine runs, and what it is compared with.</summary>
    public string Device { get; init; } = "cpu";

    public Precision Precision { get; init; }

    public AdaptiveModelOptions Load => new() { Device = Device, Precision = Precision, OwnsProcess = true };

    /// <summary>Steps of the memory benchmark.</summary>
    public int Steps { get; init; } = 100_000;

    public int Rounds { get; init; } = 15;

    /// <summary>Least time of a sample; short variants repeat.</summary>
    public TimeSpan Sample { get; init; } = TimeSpan.FromSeconds(0.3);
}
