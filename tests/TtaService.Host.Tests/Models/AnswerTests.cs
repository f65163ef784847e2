using System.Text.Json;
using Grpc.Core;
using Microsoft.Extensions.DependencyInjection;
using TtaService.Client;
using TtaService.Host.Grpc;
using TtaService.Host.Tests.Commands;
using TtaService.Host.Tests.Infrastructure;
using TtaService.Serving.Streams;
using TtaService.Serving.Streams.Keeping;
using TtaService.V1;
using StateOrigin = TtaService.Serving.Streams.StateOrigin;

namespace TtaService.Host.Tests.Models;

/// <summary>Boxes, points, maps and vectors are those of a Python reference (Data/make_answers.py), in the pixels of the frame that was sent.</summary>
public sealed class AnswerTests(AnsweringModels models) : IClassFixture<AnsweringModels>
{
    public static TheoryData<string, string> Detectors()
    {
        var data = new TheoryData<string, string>();
        foreach (var model in (string[])["yolo-v8", "yolo-v5", "yolo-v10", "yolo-pose", "boxes-scores", "ssdlite", "keypoint-rcnn"])
        {
            data.Add(model, "frame");
            data.Add(model, "tall");
        }

        return data;
    }

    [Theory]
    [MemberData(nameof(Detectors))]
    public async Task Boxes_OfADetector_AreTheReferences(string model, string picture)
    {
        var expected = Expected(model, picture);

        var found = await PredictAsync(model, picture);

        Assert.NotEmpty(expected);
        ExpectedAnswers.AssertBoxes(expected, [.. found.Boxes]);
        Assert.Equal(picture == "frame" ? (90, 60) : (100, 161), (found.Width, found.Height));
        Assert.Empty(found.Top);
    }

    [Fact]
    public async Task Boxes_OfATurnedFrame_AreInThePixelsOfTheFile()
    {
        // Stored on its side: a point (x, y) of the upright picture lies at (y, 90 - x) of the file's.
        ExpectedBox[] expected = [.. Expected("yolo-v8", "frame").Select(box => box with { Box = [box.Box[1], 90 - box.Box[2], box.Box[3], 90 - box.Box[0]] })];

        var found = await PredictAsync("turned", "turned");

        ExpectedAnswers.AssertBoxes(expected, [.. found.Boxes]);
        Assert.Equal((60, 90), (found.Width, found.Height));
    }

    [Theory]
    [InlineData("yolo-pose")]
    [InlineData("deeplab")]
    [InlineData("embedder")]
    public async Task Answer_SentAgain_IsTheKeptOneAlsoFromTheStore(string model)
    {
        var request = new InferRequest { Open = new OpenStream { Stream = $"kept-{model}", Model = model }, Step = new StepRequest { Sequence = 1, Frames = { File("frame") } } };
        var first = (await models.Host.Adaptation.InferAsync(request)).Step;
        var again = (await models.Host.Adaptation.InferAsync(request)).Step;

        var session = models.Host.Host.Services.GetRequiredService<StreamDirectory>().Get($"kept-{model}");
        var record = new StreamRecord(session.Settings, DateTimeOffset.UnixEpoch, DateTimeOffset.UnixEpoch, session.Answered.Kept);
        var stored = StreamRecord.Read(record.Write())!.Answers[0].Answer;

        Assert.True(again.Replayed);
        Assert.Equal(first.Predictions, again.Predictions);
        Assert.Equal(first.Predictions, Replies.Step(1, stored, StateOrigin.Restored).Predictions);
    }

    [Fact]
    public async Task Boxes_OfATensor_AreInTheInputsPixels()
    {
        var values = new float[3 * 64 * 64];
        Array.Fill(values, 0.5f);

        var found = (await StepAsync("yolo-v8", TestFrames.Tensor([3, 64, 64], values))).Predictions[0];

        Assert.Equal((64, 64), (found.Width, found.Height));
        Assert.All(found.Boxes, box => Assert.InRange(box.X2, box.X1, 64));
    }

    [Fact]
    public async Task Boxes_LabelsOfTheMetadata_NameThem() =>
        Assert.All((await PredictAsync("yolo-v8", "frame")).Boxes, box => Assert.Equal($"thing {box.Index}", box.Label));

    [Fact]
    public async Task Boxes_SettingsOfTheRequest_GoBeforeTheModels()
    {
        var all = await PredictAsync("yolo-v8", "frame");
        var few = await PredictAsync("few", "frame");
        var asked = await PredictAsync("few", "frame", new ReplyOptions { ScoreThreshold = 0.25f, IouThreshold = 0.45f, MaxBoxes = 1000 });
        var apart = await PredictAsync("yolo-v8", "frame", new ReplyOptions { IouThreshold = 0 });

        Assert.Equal(all.Boxes.Take(3), few.Boxes);
        Assert.Equal(all.Boxes, asked.Boxes);
        Assert.InRange(apart.Boxes.Count, 1, all.Boxes.Count - 1);
    }

    [Theory]
    [InlineData("score_threshold")]
    [InlineData("iou_threshold")]
    [InlineData("max_boxes")]
    [InlineData("mask_encoding")]
    public async Task Request_SettingsPastTheirLimits_AreRefused(string field)
    {
        var options = field switch
        {
            "score_threshold" => new ReplyOptions { ScoreThreshold = float.NaN },
            "iou_threshold" => new ReplyOptions { IouThreshold = 1.5f },
            "max_boxes" => new ReplyOptions { MaxBoxes = 1001 },
            _ => new ReplyOptions { MaskEncoding = (MaskEncoding)9 },
        };

        var refused = await Assert.ThrowsAsync<RpcException>(() => PredictAsync("yolo-v8", "frame", options));

        Assert.Equal(StatusCode.InvalidArgument, refused.StatusCode);
        Assert.Contains(field.Replace('_', field == "mask_encoding" ? ' ' : '_'), refused.Status.Detail, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("frame", MaskEncoding.Unspecified)]
    [InlineData("frame", MaskEncoding.RunLengths)]
    [InlineData("tall", MaskEncoding.Png)]
    [InlineData("tall", MaskEncoding.RunLengths)]
    public async Task Map_OfASegmentationModel_IsTheReferences(string picture, MaskEncoding encoding)
    {
        var expected = Decoded($"deeplab/{picture}.map.png");

        var found = await PredictAsync("deeplab", picture, new ReplyOptions { MaskEncoding = encoding });

        var map = found.ClassMap();
        Assert.Equal((found.Width, found.Height), (map.Width, map.Height));
        Assert.InRange(map.Classes.Zip(expected).Count(pair => pair.First == pair.Second) / (double)expected.Length, 0.999, 1);
        Assert.All(found.Segmentation.Shares, share => Assert.Equal(expected.Count(value => value == share.Index) / (double)expected.Length, share.Probability, 2e-3));
        Assert.Equal(1, found.Segmentation.Shares.Sum(share => share.Probability), 1e-5);
    }

    [Fact]
    public async Task Map_OfATurnedFrame_IsInThePixelsOfTheFile()
    {
        var upright = (await PredictAsync("deeplab", "frame")).ClassMap();

        var stored = (await PredictAsync("turned-map", "turned")).ClassMap();

        Assert.Equal((60, 90), (stored.Width, stored.Height));
        for (var y = 0; y < 60; y++)
        {
            for (var x = 0; x < 90; x++)
            {
                Assert.Equal(upright.At(x, y), stored.At(y, 89 - x));
            }
        }
    }

    [Fact]
    public async Task Map_OfACentreCrop_IsOutsideBesideIt()
    {
        // 90x60 becomes 96x64, of which the middle 64 columns are seen: 60 of the frame's.
        var found = await PredictAsync("centre-map", "frame");
        var map = found.ClassMap();

        Assert.Equal(60, Enumerable.Range(0, 90).Count(x => map.At(x, 30) != ClassMap.Outside));
        Assert.Equal(ClassMap.Outside, map.At(14, 30));
        Assert.Equal(1, found.Segmentation.Shares.Sum(share => share.Probability), 1e-5);
    }

    [Fact]
    public async Task Map_NotAskedFor_LeavesTheShares()
    {
        var whole = await PredictAsync("deeplab", "frame");
        var shares = await PredictAsync("deeplab", "frame", new ReplyOptions { MaskEncoding = MaskEncoding.None });

        Assert.Equal(whole.Segmentation.Shares, shares.Segmentation.Shares);
        Assert.Throws<InvalidOperationException>(() => shares.ClassMap());
    }

    [Fact]
    public async Task Map_AsAPng_IsReadByOtherPrograms()
    {
        var found = await PredictAsync("deeplab", "frame");
        using var picture = SkiaSharp.SKBitmap.Decode(found.Segmentation.Png.ToByteArray());

        var map = found.ClassMap();
        Assert.Equal((90, 60), (picture.Width, picture.Height));
        var colours = Enumerable.Range(0, 90 * 60).GroupBy(i => map.Classes[i], i => picture.GetPixel(i % 90, i / 90))
            .ToDictionary(group => group.Key, group => group.Distinct().Single());
        Assert.Equal(colours.Count, colours.Values.Distinct().Count());
        Assert.Equal(new SkiaSharp.SKColor(128, 0, 0), colours[1]);
    }

    [Theory]
    [InlineData("frame")]
    [InlineData("tall")]
    public async Task Vector_OfAnEmbeddingModel_HasLengthOneAndIsTheReferences(string picture)
    {
        var expected = Read("embedder", picture).GetProperty("vector").EnumerateArray().Select(value => value.GetSingle()).ToArray();

        var found = await PredictAsync("embedder", picture);

        TestFrames.AssertClose(expected, [.. found.Embedding]);
        Assert.Equal(1, found.Similarity(found), 1e-5);
    }

    [Theory]
    [InlineData("yolo-v8", AnswerKind.Detection, OutputKind.YoloV8, "task detect")]
    [InlineData("yolo-v5", AnswerKind.Detection, OutputKind.YoloV5, "YOLOv5")]
    [InlineData("yolo-v10", AnswerKind.Detection, OutputKind.YoloEndToEnd, "its class")]
    [InlineData("yolo-pose", AnswerKind.Keypoints, OutputKind.YoloPose, "5 points")]
    [InlineData("boxes-scores", AnswerKind.Detection, OutputKind.Boxes, "a score a class")]
    [InlineData("ssdlite", AnswerKind.Detection, OutputKind.Boxes, "a whole number")]
    [InlineData("keypoint-rcnn", AnswerKind.Keypoints, OutputKind.Boxes, "a whole number")]
    [InlineData("deeplab", AnswerKind.Segmentation, OutputKind.SegmentationLogits, "out")]
    [InlineData("embedder", AnswerKind.Embedding, OutputKind.Embedding, "length")]
    public async Task Model_Described_SaysWhatItAnswersAndWhy(string model, AnswerKind answer, OutputKind output, string why)
    {
        var described = await models.Host.Models.GetModelAsync(new GetModelRequest { Name = model });

        Assert.Equal(answer, described.Answer);
        Assert.Equal(output, described.Outputs[0].Kind);
        Assert.Contains(why, described.AnswerReason, StringComparison.Ordinal);
        Assert.False(described.HasPredictionOutput);
    }

    [Theory]
    [InlineData("two-labels", "2 labels", "3 classes")]
    [InlineData("four-labels", "4 labels", "out [N,5,64,64]")]
    [InlineData("mistaken", "[N,classes,height,width]", "'outputs' of model.json")]
    [InlineData("lonely", "BoxScores", "'outputs' of model.json")]
    public async Task Model_ThatDoesNotFitItsManifest_IsBroken(string model, params string[] said)
    {
        var refused = await RpcAssert.RefusedAsync(StatusCode.FailedPrecondition, "MODEL_BROKEN", () => PredictAsync(model, "frame"));

        Assert.All(said, words => Assert.Contains(words, refused.Message, StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("yolo-v8", "detection", "boxes of 3 classes")]
    [InlineData("yolo-pose", "keypoints", "boxes with 5 points each")]
    [InlineData("ssdlite", "detection", "boxes, by index")]
    [InlineData("deeplab", "segmentation", "a map of 5 classes")]
    [InlineData("embedder", "embedding", "a vector of length 1")]
    public async Task NewAndInspect_OfEachKind_WriteAManifestThatServesAndSayWhatWasDecided(string model, string kind, string verdict)
    {
        using var folders = new ModelFolders();
        var folder = folders.AddAnswering(model);

        var made = await TtaRun.Of("model", "new", folder);
        var inspected = await TtaRun.Of("inspect", folder);

        Assert.Equal((0, string.Empty), (made.ExitCode, made.Error));
        Assert.Contains(made.Lines, line => line.StartsWith($"- answers {kind}: ", StringComparison.Ordinal));
        Assert.Contains(inspected.Lines, line => line.StartsWith($"answers  {kind}: ", StringComparison.Ordinal));
        Assert.Contains(inspected.Lines, line => line.StartsWith($"Answers {verdict}", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("yolo-v8", "thing 2 ")]
    [InlineData("deeplab", "3 ")]
    [InlineData("embedder", "vector of 24")]
    public async Task Stream_OfEachKind_PrintsWhatWasFound(string model, string said)
    {
        var picture = Path.Combine(AppContext.BaseDirectory, "Data", "answers", "frame.png");

        var run = await TtaRun.Of("stream", "--address", models.Host.Grpc.ToString(), "--model", model, "--stream", $"cli-{model}", picture);

        Assert.Equal((0, string.Empty), (run.ExitCode, run.Error));
        Assert.Contains(run.Lines, line => line.Contains($"frame.png  {said}", StringComparison.Ordinal));
    }

    [Theory]
    [InlineData("yolo-v8", 3)]
    [InlineData("deeplab", 5)]
    public async Task Dashboard_OfAStreamWithoutClassScores_ShowsSharesOfWhatWasFound(string model, int classes)
    {
        var name = $"watched-{model}";
        for (var i = 0; i < 3; i++)
        {
            var step = new StepRequest { Frames = { File("frame") } };
            await models.Host.Adaptation.InferAsync(new InferRequest { Open = new OpenStream { Stream = name, Model = model }, Step = step });
        }

        var session = models.Host.Host.Services.GetRequiredService<StreamDirectory>().Get(name);
        var reading = session.Watch.Health.Read(null);
        using var http = new HttpClient { BaseAddress = models.Host.Http };
        var page = await http.GetStringAsync(new Uri($"/api/v1/streams/{name}", UriKind.Relative), TestContext.Current.CancellationToken);

        Assert.Equal(classes, reading.Classes.Count);
        Assert.Equal(1, reading.Classes.Sum(), 1e-4);
        Assert.InRange(reading.Entropy!.Value, 0.01, 1);
        Assert.Contains(name, page, StringComparison.Ordinal);
    }

    private async Task<StepReply> StepAsync(string model, Frame frame, ReplyOptions? options = null) =>
        (await models.Host.Adaptation.InferAsync(new InferRequest
        {
            Open = new OpenStream { Model = model, Reply = options },
            Step = new StepRequest { Frames = { frame } },
        })).Step;

    private async Task<FramePrediction> PredictAsync(string model, string picture, ReplyOptions? options = null) => (await StepAsync(model, File(picture), options)).Predictions[0];

    private static Frame File(string picture) => TestFrames.Encoded(System.IO.File.ReadAllBytes(Path.Combine(AppContext.BaseDirectory, "Data", "answers", $"{picture}.png")));

    private static byte[] Decoded(string path) => ExpectedAnswers.Map(Path.Combine(AppContext.BaseDirectory, "Data", "answers", path));

    private static JsonElement Read(string model, string picture)
    {
        using var file = JsonDocument.Parse(System.IO.File.ReadAllText(Path.Combine(AppContext.BaseDirectory, "Data", "answers", model, "expected.json")));
        return file.RootElement.GetProperty(picture).Clone();
    }

    private static ExpectedBox[] Expected(string model, string picture) => ExpectedAnswers.Boxes(Read(model, picture));
}
