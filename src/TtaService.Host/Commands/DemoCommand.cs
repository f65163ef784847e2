using System.CommandLine;
using Grpc.Net.Client;
using TtaService.Evaluation;
using TtaService.Host.Commands.Demo;
using TtaService.Host.Commands.Evaluation;
using TtaService.Host.Hosting;
using TtaService.Serving.Streams;

namespace TtaService.Host.Commands;

/// <summary><c>tta demo</c>: the real server, and simulated cameras that talk to it over gRPC.</summary>
internal static class DemoCommand
{
    // Each camera with another disturbance, from all four families.
    private static readonly string[] Domains =
    [
        "gaussian_noise", "fog", "contrast", "brightness", "impulse_noise", "frost", "motion_blur", "jpeg_compression",
        "shot_noise", "snow", "pixelate", "zoom_blur", "glass_blur", "elastic_transform", "defocus_blur",
    ];

    // Among eight cameras one whose pictures are as in training, and one that sees something else every now and then.
    private const int CleanCamera = 5;
    private const int ChangingCamera = 7;
    private const int ChangesAfter = 200;

    public static Command Build()
    {
        var seconds = NumberOption.Integer("--seconds", "How long", 30, 1, 86_400);
        var cameras = NumberOption.Integer("--cameras", "Simulated cameras", 8, 1, 256);
        var method = new Option<string?>("--method")
        {
            Description = "The method that is compared with source, for example ema{momentum=0.1}; "
            + "the model's default when not given.",
            HelpName = "METHOD"
        };
        var batch = NumberOption.Integer("--batch-size", "Frames a step", 1, 1, 64);
        var severity = NumberOption.Integer("--severity", "Severity of the corruptions", 5, 1, 5);
        var switchAfter = NumberOption.Integer(
            "--switch-after",
            "Frames after which every camera's corruption changes to the next; 0 for the eighth camera's only",
            0,
            0,
            int.MaxValue);
        var model = new Option<string>("--model") { Description = "A model with a labelled sample beside it.", DefaultValueFactory = _ => "fashion-mnist" };
        var models = ModelLocation.RepositoryOption();
        var httpPort = NumberOption.Integer("--http-port", "Port for metrics and health; 0 for any free one", 0, 0, 65535);
        var command = new Command(
            "demo",
            "Starts the server with simulated cameras and shows what adapting is worth.") { seconds, cameras, method, batch, severity, switchAfter, model, models, httpPort };
        command.SetAction(async (parsed, cancel) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration);
            var location = ModelLocation.Resolve(parsed.GetRequiredValue(model), parsed.GetValue(models));
            var folder = location.Folder ?? throw CommandException.WrongUse("--model must be a model folder with a sample beside the model");
            var host = await DemoServer.StartAsync(Path.GetDirectoryName(folder.FolderPath)!, parsed.GetValue(httpPort), cancel).ConfigureAwait(false);
            await using var disposal = host.ConfigureAwait(false);
            var served = host.Services.GetRequiredService<ModelCatalog>().Find(folder.Name);
            var adapted = parsed.GetValue(method) is { } expression
                ? MethodExpressions.ParseSingle(expression, location.Methods)
                : new MethodChoice(served.DefaultMethod.Name, served.DefaultMethod, []);
            var (address, http) = TtaHost.Addresses(host);
            var images = LabelledImages.Open(EvaluationData.Sample(location), path => throw CommandException.WrongUse($"the demo needs IDX or .npy images, not {path}"));
            var plan = $"{parsed.GetValue(cameras)} cameras send frames of {images.Count} labelled images, {adapted.Label} against source, for {parsed.GetValue(seconds)} s";
            terminal.Line($"tta serves {folder.Name} at {address.AbsoluteUri.TrimEnd('/')}; {plan}");
            terminal.Line($"watch it at {http.AbsoluteUri}; metrics at {http.AbsoluteUri}metrics");

            using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancel);
            stop.CancelAfter(TimeSpan.FromSeconds(parsed.GetValue(seconds)));
            var scores = new List<CameraScore>();
            var tasks = new List<Task>();
            EvaluationDomain[] domains =
            [
                .. Domains.Select(domain => new EvaluationDomain(Corruption.Find(domain), parsed.GetValue(severity))),
                new EvaluationDomain(null, parsed.GetValue(severity)),
            ];
            for (var i = 0; i < parsed.GetValue(cameras); i++)
            {
                var name = $"camera-{i + 1}";
                var feed = Feed(images, domains, i, parsed.GetValue(switchAfter));
                var score = new CameraScore(name, feed);
                scores.Add(score);
                // A connection of its own: one camera's stall must not hold up the others.
                var channel = GrpcChannel.ForAddress(address);
                tasks.Add(RunAsync(new DemoCamera(name, folder.Name, adapted.ToWire(), feed, score), channel, parsed.GetValue(batch), stop));
            }

            await new DemoBoard(terminal, TimeProvider.System, adapted.Label, scores).ShowAsync(Task.WhenAll(tasks)).ConfigureAwait(false);
            await host.StopAsync(CancellationToken.None).ConfigureAwait(false);
            if (!cancel.IsCancellationRequested && DemoComparison.Run(location, domains, scores, parsed.GetValue(batch), adapted, cancel) is { } comparison)
            {
                terminal.Line($"{comparison}");
            }

            return 0;
        });
        return command;
    }

    private static CameraFeed Feed(LabelledImages images, EvaluationDomain[] domains, int camera, int switchAfter)
    {
        return camera % domains.Length == CleanCamera
            ? new CameraFeed(images, domains, first: domains.Length - 1, switchAfter: 0, seed: camera)
            : new CameraFeed(images, domains, first: camera % (domains.Length - 1), switchAfter > 0 ? switchAfter : camera == ChangingCamera ? ChangesAfter : 0, seed: camera);
    }

    private static async Task RunAsync(DemoCamera camera, GrpcChannel channel, int batch, CancellationTokenSource stop)
    {
        using (channel)
        {
            try
            {
                await camera.RunAsync(channel.CreateCallInvoker(), batch, stop.Token).ConfigureAwait(false);
            }
            catch
            {
                // One camera that fails ends the demo, with its error.
                await stop.CancelAsync().ConfigureAwait(false);
                throw;
            }
        }
    }
}
