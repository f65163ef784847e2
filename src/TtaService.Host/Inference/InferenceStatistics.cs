using TtaService.Inference;

namespace TtaService.Host.Inference;

/// <summary>What a model has answered since the start of the process.</summary>
internal sealed class InferenceStatistics(TimeProvider clock)
{
    private readonly Lock _gate = new();
    private (ulong Count, ulong Ticks) _succeeded;
    private (ulong Count, ulong Ticks) _failed;
    private ulong _inferences;
    private long _last;

    public void Add(TimeSpan took, int batch, bool succeeded)
    {
        lock (_gate)
        {
            ref var side = ref succeeded ? ref _succeeded : ref _failed;
            side = (side.Count + 1, side.Ticks + (ulong)took.Ticks);
            _inferences += succeeded ? (ulong)batch : 0;
            _last = clock.GetUtcNow().ToUnixTimeMilliseconds();
        }
    }

    public ModelStatistics Read(string model, string version)
    {
        lock (_gate)
        {
            return new ModelStatistics
            {
                Name = model,
                Version = version,
                LastInference = (ulong)_last,
                InferenceCount = _inferences,
                ExecutionCount = _succeeded.Count,
                InferenceStats = new InferStatistics { Success = Duration(_succeeded), Fail = Duration(_failed) },
            };
        }
    }

    private static StatisticDuration Duration((ulong Count, ulong Ticks) side) => new() { Count = side.Count, Ns = side.Ticks * TimeSpan.NanosecondsPerTick };
}
