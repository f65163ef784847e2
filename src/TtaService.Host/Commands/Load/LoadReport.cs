namespace TtaService.Host.Commands.Load;

/// <summary>What a run of <c>tta load</c> came to. Times are in milliseconds; latency counts from when a frame was due.</summary>
internal sealed record LoadReport
{
    public required int Cameras { get; init; }

    public required int NeverOpened { get; init; }

    public required double Seconds { get; init; }

    public required int Steps { get; init; }

    public required int Answered { get; init; }

    public required double StepsPerSecond { get; init; }

    public required int LeftOut { get; init; }

    public required int Failed { get; init; }

    public required int Lost { get; init; }

    public required int Reconnections { get; init; }

    public required int Resent { get; init; }

    public required int Replayed { get; init; }

    public required int Moved { get; init; }

    public required int Resets { get; init; }

    public required long ForgottenSteps { get; init; }

    public required long DoubleSteps { get; init; }

    public required double LatencyP50 { get; init; }

    public required double LatencyP99 { get; init; }

    public required double LatencyMax { get; init; }

    public required double LongestGap { get; init; }

    public required string? FirstError { get; init; }

    /// <summary>Every frame that was due was answered, and no stream lost or doubled a step.</summary>
    public bool IsClean => NeverOpened + LeftOut + Failed + Lost + Resets == 0 && ForgottenSteps + DoubleSteps == 0 && Answered == Steps;

    public static LoadReport Of(IReadOnlyList<LoadCamera> cameras, TimeSpan took)
    {
        var latencies = cameras.SelectMany(camera => camera.Latencies).Order().ToList();
        return new LoadReport
        {
            Cameras = cameras.Count,
            NeverOpened = cameras.Count(camera => !camera.Opened),
            Seconds = Math.Round(took.TotalSeconds, 1),
            Steps = cameras.Sum(camera => camera.Due),
            Answered = latencies.Count,
            StepsPerSecond = Math.Round(latencies.Count / took.TotalSeconds, 1),
            LeftOut = cameras.Sum(camera => camera.LeftOut),
            Failed = cameras.Sum(camera => camera.Failed),
            Lost = cameras.Sum(camera => camera.Lost),
            Reconnections = cameras.Sum(camera => camera.Reconnections),
            Resent = cameras.Sum(camera => camera.Resent),
            Replayed = cameras.Sum(camera => camera.Replayed),
            Moved = cameras.Sum(camera => camera.Moved),
            Resets = cameras.Sum(camera => camera.Resets),
            ForgottenSteps = cameras.Sum(camera => camera.ForgottenSteps),
            DoubleSteps = cameras.Sum(camera => camera.DoubleSteps),
            LatencyP50 = Quantile(latencies, 0.5),
            LatencyP99 = Quantile(latencies, 0.99),
            LatencyMax = Quantile(latencies, 1),
            LongestGap = Math.Round(cameras.Max(camera => camera.LongestGap).TotalMilliseconds, 1),
            FirstError = cameras.Select(camera => camera.FirstError).FirstOrDefault(error => error is not null),
        };
    }

    public List<FormattableString> Lines() =>
    [
        $"{Cameras} cameras, {Seconds:0.0} s: {Steps:N0} steps were due, {Answered:N0} answered ({StepsPerSecond:0.0}/s), {Unanswered()}",
        $"latency from when a frame was due: p50 {LatencyP50:0.0} ms, p99 {LatencyP99:0.0} ms, longest {LatencyMax:0.0} ms; {Gap()}",
        $"{Reconnections:N0} reconnections, {Resent:N0} steps sent again, {Replayed:N0} of them answered from what was kept; streams moved {Moved:N0} times",
        $"state: {Resets:N0} resets, {ForgottenSteps:N0} steps forgotten, {DoubleSteps:N0} doubled",
        .. FirstError is null ? Array.Empty<FormattableString>() : [$"first error: {FirstError}"],
    ];

    private string Unanswered() => FormattableString.Invariant($"{LeftOut:N0} left out, {Failed:N0} failed, {Lost:N0} lost, {NeverOpened:N0} cameras never got in");

    private string Gap() => FormattableString.Invariant($"longest gap between two answers of a camera {LongestGap:0.0} ms");

    private static double Quantile(List<double> ordered, double quantile) =>
        ordered.Count == 0 ? 0 : Math.Round(ordered[Math.Min(ordered.Count - 1, (int)(quantile * ordered.Count))], 1);
}
