using System.CommandLine;
using TorchSharp;
using TtaService.Benchmarks;
using TtaService.Engine.Execution;

var threads = new Option<int>("--threads") { Description = "Threads of torch and ONNX Runtime.", DefaultValueFactory = _ => 1 };
var rounds = new Option<int>("--rounds") { Description = "Rounds; each measures every variant once.", DefaultValueFactory = _ => 15 };
var models = new Option<string[]>("--models") { Description = "resnet18, resnet50.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => ["resnet18", "resnet50"] };
models.AcceptOnlyFromAmong([.. ResNetModels.Names]);
var batches = new Option<int[]>("--batches") { Description = "Batch sizes of 'pass'.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [1, 8, 16] };
var streams = new Option<int[]>("--streams") { Description = "Streams of 'streams'.", AllowMultipleArgumentsPerToken = true, DefaultValueFactory = _ => [4, 16, 64] };
var steps = new Option<int>("--steps") { Description = "Steps of 'memory'.", DefaultValueFactory = _ => 100_000 };
var device = new Option<string>("--device") { Description = "cpu, or cuda:N for 'pass', 'streams' and 'drift'; wall times count there.", DefaultValueFactory = _ => "cpu" };
var precision = new Option<Precision>("--precision") { Description = "fp32, or bf16 on a GPU.", DefaultValueFactory = _ => Precision.Fp32 };
var root = new RootCommand("Measures TtaService as ratios of things that run interleaved on this machine.") { threads, rounds, models, batches, streams, steps, device, precision };
foreach (var option in root.Options.Where(option => option.Name.StartsWith("--", StringComparison.Ordinal)))
{
    option.Recursive = true;
}

Add("pass", "Adapting within one pass, against eval BN, folded BN, the plainly written layer and ONNX Runtime.", PassBenchmark.Run);
Add("auto", "A pass of auto against one of unmix_tns, on networks of 10 and of 1,000 classes.", AutoBenchmark.Run);
Add("affine", "Learning scales and biases by gradients, against a pass of tbn.", AffineBenchmark.Run);
Add("virtual", "A pass with virtual sites, against the same folded network as it is.", VirtualSiteBenchmark.Run);
Add("streams", "Frames of many streams in one pass, against one stream and isolated passes.", StreamsBenchmark.Run);
Add("decode", "From a JPEG or PNG to a model's pixels, by each decoder.", DecodeBenchmark.Run);
Add("service", "Concurrent gRPC clients against the same steps in process.", ServiceBenchmark.Run);
Add("checkpoints", "Steps of 64 streams that are written every 10 s, against the same steps without.", CheckpointBenchmark.Run);
Add("drift", "Observed statistics against none, and a sweep over 200 streams.", DriftBenchmark.Run);
Add("memory", "Bytes of a stream, and resident memory over 100,000 steps of 200 streams on 64 slots.", MemoryBenchmark.Run);
Add("all", "Everything, for the table in the README.", (report, options) =>
{
    PassBenchmark.Run(report, options);
    AutoBenchmark.Run(report, options);
    AffineBenchmark.Run(report, options);
    VirtualSiteBenchmark.Run(report, options);
    StreamsBenchmark.Run(report, options);
    DecodeBenchmark.Run(report, options);
    ServiceBenchmark.Run(report, options);
    CheckpointBenchmark.Run(report, options);
    DriftBenchmark.Run(report, options);
    MemoryBenchmark.Run(report, options);
});
return root.Parse(args).Invoke();

void Add(string name, string description, Action<Report, BenchmarkOptions> run)
{
    var command = new Command(name, description);
    command.SetAction(parsed =>
    {
        var options = new BenchmarkOptions
        {
            Threads = parsed.GetValue(threads),
            Rounds = parsed.GetValue(rounds),
            Models = parsed.GetValue(models)!,
            Batches = parsed.GetValue(batches)!,
            Steps = parsed.GetValue(steps),
            Streams = parsed.GetValue(streams)!,
            Device = parsed.GetValue(device)!,
            Precision = parsed.GetValue(precision),
        };
        torch.set_num_threads(options.Threads);
        var report = new Report(Console.Out, options.Threads);
        report.Begin();
        // On a thread of its own, as the engine runs: glibc serves it from another arena than the main thread.
        var worker = new Thread(() => run(report, options));
        worker.Start();
        worker.Join();
    });
    root.Add(command);
}
