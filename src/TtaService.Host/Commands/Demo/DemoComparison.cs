using System.Globalization;
using TtaService.Evaluation;
using TtaService.Host.Commands.Evaluation;

namespace TtaService.Host.Commands.Demo;

/// <summary>What the published methods would have given on the first frames of each camera, evaluated after the demo: its user has one camera and no labels to choose one
/// with.</summary>
internal static class DemoComparison
{
    // Enough for running statistics to settle, few enough to be done in seconds.
    private const int MostFrames = 256;
    private const string Source = "source";

    private static readonly string[] Published = ["tbn", "alpha_bn", "prior", "ema", "tbr", "iabn", "unmix_tns"];

    /// <summary>A sentence; null when no camera got an answer.</summary>
    public static string? Run(
        ModelLocation location,
        IReadOnlyList<EvaluationDomain> domains,
        IReadOnlyList<CameraScore> scores,
        int batchSize,
        MethodChoice own,
        CancellationToken cancel)
    {
        var frames = (int)Math.Min(MostFrames, scores.Min(score => score.Read().Frames));
        if (frames == 0)
        {
            return null;
        }

        using var model = location.Load(location.LoadOptions);
        MethodChoice[] methods = [own, .. Published.Append(Source).Where(name => name != own.Label).Select(name => MethodExpressions.ParseSingle(name, location.Methods))];
        var runs = methods.SelectMany(method => scores.Select(score =>
            new EvaluationRun { Method = method.Settings, Samples = score.Feed.FirstFrames(frames), BatchSize = batchSize }));
        var results = new Evaluator(model, EvaluationData.Open(location, model, null, domains)).Run([.. runs], null, cancel);
        var errors = methods.Select((method, at) => (method.Label, Error: Error([.. results.Skip(at * scores.Count).Take(scores.Count)]))).ToList();
        var (best, error) = errors.Where(other => other.Label != own.Label && other.Label != Source && double.IsFinite(other.Error)).MinBy(other => other.Error);
        return string.Create(
            CultureInfo.InvariantCulture,
            $"On the first {frames} frames of each camera the best single published method ({best}) would have erred on {error:0.0} %, "
                + $"{own.Label} erred on {errors[0].Error:0.0} %, source on {errors[^1].Error:0.0} %.");
    }

    private static double Error(IReadOnlyList<EvaluationResult> results) =>
        results.Any(result => result.Refusal is not null) ? double.NaN : 100.0 * results.Sum(result => result.Errors.Sum()) / results.Sum(result => result.Frames.Sum());
}
