using Microsoft.Extensions.Time.Testing;
using TtaService.Serving.Telemetry;

namespace TtaService.Host.Tests.Telemetry;

public sealed class DriftHistoryTests
{
    private readonly FakeTimeProvider _clock = new(new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero));

    [Theory]
    [InlineData(1, 65)]
    [InlineData(2, 81)]
    [InlineData(0.5, 49)]
    [InlineData(1e9, 255)]
    [InlineData(1e-9, 1)]
    [InlineData(0, 0)]
    [InlineData(double.NaN, 0)]
    public void Encode_IsSixteenCellsADoubling(double value, byte expected) => Assert.Equal(expected, DriftHistory.Encode(value));

    [Fact]
    public void Scores_AColumnKeepsItsWorst_AndGapsAreNoData()
    {
        var history = new DriftHistory(_clock);
        history.Add("camera", 1, [1, 2]);
        history.Add("camera", 4, [3, 1]);
        history.Add("camera", 2, [2, 2]);
        _clock.Advance(3 * DriftHistory.ColumnTime);
        history.Add("camera", 1, [1, 1]);
        _clock.Advance(DriftHistory.ColumnTime);

        byte[] expected = [DriftHistory.Encode(4), 0, 0, DriftHistory.Encode(1), 0];
        Assert.Equal(expected, history.Scores("camera")[^5..]);
        Assert.Equal(expected, history.Scores("camera", 5));
        Assert.All(history.Scores("camera")[..^5], cell => Assert.Equal(0, cell));
        var sites = history.Sites("camera");
        Assert.Equal(DriftHistory.Encode(3), sites[DriftHistory.Columns - 5]);
        Assert.Equal(DriftHistory.Encode(2), sites[^5]);
        Assert.All(history.Scores("nobody"), cell => Assert.Equal(0, cell));
        Assert.Empty(history.Sites("nobody"));
    }

    [Fact]
    public void Scores_AfterMoreThanTheHour_HoldTheHourOnly()
    {
        var history = new DriftHistory(_clock);
        for (var column = 0; column < DriftHistory.Columns + 10; column++)
        {
            history.Add("camera", column < 10 ? 8 : 1, [1]);
            _clock.Advance(DriftHistory.ColumnTime);
        }

        // The column of now has nothing yet.
        Assert.Equal(0, history.Scores("camera")[^1]);
        Assert.All(history.Scores("camera")[..^1], cell => Assert.Equal(DriftHistory.Encode(1), cell));
    }

    [Fact]
    public void Trim_ForgetsWhoWasSilentForAnHour()
    {
        var history = new DriftHistory(_clock);
        history.Add("silent", 1, [1]);
        _clock.Advance((DriftHistory.Columns + 1) * DriftHistory.ColumnTime);
        history.Add("camera", 1, [1]);

        history.Trim();

        Assert.Empty(history.Sites("silent"));
        Assert.NotEmpty(history.Sites("camera"));
    }

    [Fact]
    public void Add_MoreStreamsThanAreKeptBySite_KeepsTheirScores()
    {
        var history = new DriftHistory(_clock);
        for (var i = 0; i < 2001; i++)
        {
            history.Add($"camera-{i}", 2, [2]);
        }

        Assert.NotEmpty(history.Sites("camera-1999"));
        Assert.Empty(history.Sites("camera-2000"));
        Assert.Equal(DriftHistory.Encode(2), history.Scores("camera-2000")[^1]);
    }

    [Fact]
    public void Add_AfterTheClockWasSetBack_GoesOnWhereItWas()
    {
        var clock = new FakeTimeProvider(_clock.GetUtcNow()) { AutoAdvanceAmount = TimeSpan.Zero };
        var history = new DriftHistory(clock);
        clock.Advance(10 * DriftHistory.ColumnTime);
        history.Add("camera", 1, [1]);
        clock.AdjustTime(_clock.GetUtcNow());

        history.Add("camera", 4, [4]);

        Assert.Equal(DriftHistory.Encode(4), history.Scores("camera")[^1]);
    }
}
