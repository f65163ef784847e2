using System.Globalization;
using TtaService.Engine.Answers;
using TtaService.Engine.Drift;
using TtaService.Engine.Execution;
using TtaService.Engine.Normalization;
using TtaService.Serving.Models;

namespace TtaService.Host.Commands;

/// <summary>What <c>tta inspect</c> concludes in words: what will adapt, what not, and what to do.</summary>
internal static class ModelVerdict
{
    /// <param name="model">Loaded, and settled unless that failed.</param>
    /// <param name="folder">Its folder, or one of defaults.</param>
    /// <param name="method">Of streams that name none.</param>
    /// <param name="problem">Why it can't be served; null when it can.</param>
    public static IReadOnlyList<string> Of(AdaptiveModel model, ModelFolder folder, MethodSettings? method, string? problem)
    {
        if (problem is not null)
        {
            return [$"Can't be served: {problem}"];
        }

        return [Adaptation(model), Predictions(model, folder), Default(model, method!), .. Calibration(model, folder)];
    }

    private static string Adaptation(AdaptiveModel model)
    {
        if (model.Sites.Count == 0)
        {
            return $"Nothing adapts: {model.WhyUnavailable(MethodSettings.Create("ema"))}.";
        }

        var fixedSites = model.Sites.Count(model.StaysAtSource);
        if (fixedSites > 0)
        {
            return string.Create(
                CultureInfo.InvariantCulture,
                $"Adapts in part: {model.Sites.Count - fixedSites} of {model.Sites.Count} normalization sites; "
                    + $"the others stay at their source statistics, as the notices above say.");
        }

        if (model.Advice is { } advice)
        {
            return string.Create(CultureInfo.InvariantCulture, $"Adapts in part: {model.Sites.Count} normalization sites for {model.Convolutions} convolutions; {advice}.");
        }

        var virtuals = model.Sites.Count(site => site.Kind == SiteKind.Virtual);
        var kinds = virtuals == 0
            ? string.Empty
            : string.Create(CultureInfo.InvariantCulture, $" ({virtuals} of them virtual: without BatchNorm in the graph, by the calibration's source statistics)");
        return string.Create(
            CultureInfo.InvariantCulture,
            $"Adapts: all {model.Sites.Count} normalization sites{kinds} take each stream's own statistics, for {model.Convolutions} convolutions.");
    }

    private static string Predictions(AdaptiveModel model, ModelFolder folder)
    {
        if (model.Answer is { Kind: not (AnswerKind.Raw or AnswerKind.Classification) } answer)
        {
            return string.Create(
                CultureInfo.InvariantCulture,
                $"Answers {Words(answer, folder.LabelsOf(model).Count)}: {answer.Reason}. If that is wrong, set the kinds in 'outputs' of model.json.");
        }

        if (model.Scores is not { } scores)
        {
            return "No predictions: no output holds class scores, so replies carry raw outputs only, and drift is read from the sites alone. "
                + "If one does, name it in 'outputs' of model.json.";
        }

        var named = folder.LabelsOf(model).Count > 0 ? "with their labels" : "by index; add labels to model.json";
        var how = scores.Kind switch
        {
            OutputKind.Logits => "softmax is applied to them",
            OutputKind.LogProbabilities => "their exponential is taken",
            OutputKind.MultiLabelLogits => "a sigmoid is applied to each of them, and labels may hold together",
            OutputKind.MultiLabelProbabilities => "they go out as they are, and labels may hold together",
            _ => "they go out as they are",
        };
        return string.Create(
            CultureInfo.InvariantCulture,
            $"Predicts {scores.Classes} classes from {scores.Name}, {named}: {scores.Reason}, so {how}. If that is wrong, set its kind in 'outputs' of model.json.");
    }

    private static string Words(ModelAnswer answer, int labels)
    {
        var of = answer.Classes is { } classes ? string.Create(CultureInfo.InvariantCulture, $" of {classes} classes") : string.Empty;
        var named = labels > 0 ? ", with their labels" : ", by index (add labels to model.json)";
        var detection = answer.Detection;
        var limits = string.Create(
            CultureInfo.InvariantCulture,
            $" (scores above {detection.ScoreThreshold:0.###}, at most {detection.MaxBoxes}; 'detection' of model.json)");
        return answer.Kind switch
        {
            AnswerKind.Detection => $"boxes{of}{named}{limits}",
            AnswerKind.Keypoints => string.Create(CultureInfo.InvariantCulture, $"boxes with {detection.Keypoints?.Points} points each{of}{named}{limits}"),
            AnswerKind.Segmentation => $"a map{of} at the frame's size{named}",
            _ => "a vector of length 1",
        };
    }

    private static string Default(AdaptiveModel model, MethodSettings method) =>
        model.Sites.Count > 0 && method.Name == "source"
            ? "Streams that name no method run source, which adapts nothing: run tta calibrate on ordinary frames, and they run auto, "
                + "or measure with tta evaluate --order correlated which method helps on your frames and name it in default_method of model.json."
            : $"Streams that name no method run {method.Name}.";

    private static IEnumerable<string> Calibration(AdaptiveModel model, ModelFolder folder)
    {
        if (model.Sites.Count > 0 && !File.Exists(Path.Combine(folder.FolderPath, DriftReference.FileName)))
        {
            yield return "Drift has no scale yet: run tta calibrate with normal frames in stream order.";
        }
    }
}
