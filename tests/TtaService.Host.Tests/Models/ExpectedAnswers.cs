using System.Text.Json;
using TtaService.V1;

namespace TtaService.Host.Tests.Models;

/// <summary>A box of a reference, in the pixels of the frame.</summary>
internal sealed record ExpectedBox(double[] Box, double Score, int Class, double[][] Points);

/// <summary>What a Python reference wrote down, and how near to it an answer must be.</summary>
internal static class ExpectedAnswers
{
    private const double Pixels = 0.5;
    private const double Scores = 1e-3;

    public static ExpectedBox[] Boxes(JsonElement boxes) => [.. boxes.EnumerateArray().Select(box => new ExpectedBox(
        [.. box.GetProperty("box").EnumerateArray().Select(value => value.GetDouble())],
        box.GetProperty("score").GetDouble(),
        box.GetProperty("class").GetInt32(),
        [.. box.GetProperty("points").EnumerateArray().Select(point => point.EnumerateArray().Select(value => value.GetDouble()).ToArray())]))];

    /// <summary>The grey values of a picture: a class a pixel.</summary>
    public static byte[] Map(string path)
    {
        using var map = SkiaSharp.SKBitmap.Decode(path);
        return [.. Enumerable.Range(0, map.Width * map.Height).Select(i => map.GetPixel(i % map.Width, i / map.Width).Red)];
    }

    // Neighbours of nearly one score may change places.
    public static void AssertBoxes(ExpectedBox[] expected, List<DetectedBox> found)
    {
        Assert.Equal(expected.Length, found.Count);
        Assert.Equal(found.Select(box => box.Score).OrderDescending(), found.Select(box => box.Score));
        foreach (var box in expected)
        {
            var match = found.FindIndex(other => other.Index == box.Class && Math.Abs(other.Score - box.Score) <= Scores && Near(box.Box, [other.X1, other.Y1, other.X2, other.Y2])
                && other.Points.Count == box.Points.Length
                && other.Points.Zip(box.Points).All(pair => Near([pair.First.X, pair.First.Y], pair.Second)
                    && Math.Abs(pair.First.Score - pair.Second[2]) <= Math.Max(Scores, 1e-3 * Math.Abs(pair.Second[2]))));
            Assert.True(match >= 0, $"none is class {box.Class}, score {box.Score} at {string.Join(", ", box.Box)}; there are {string.Join("; ", found)}");
            found.RemoveAt(match);
        }
    }

    private static bool Near(double[] expected, double[] actual) => actual.Zip(expected).All(pair => Math.Abs(pair.First - pair.Second) <= Pixels);
}
