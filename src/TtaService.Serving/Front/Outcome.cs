using System.Diagnostics.CodeAnalysis;

namespace TtaService.Serving.Front;

/// <summary>What was asked for, or why there is none: one of the two is set. Defects are no outcome, they are thrown.</summary>
/// <param name="Value">What was asked for; null when it was refused.</param>
/// <param name="Failure">Why it was refused; null when it was not.</param>
public readonly record struct Outcome<T>(T? Value, Failure? Failure)
    where T : class
{
    /// <summary>What was asked for.</summary>
    [SuppressMessage("Usage", "CA2225:Operator overloads have named alternates", Justification = "The constructor is the alternative.")]
    public static implicit operator Outcome<T>(T value) => new(value, null);

    /// <summary>Why there is none.</summary>
    [SuppressMessage("Usage", "CA2225:Operator overloads have named alternates", Justification = "The constructor is the alternative.")]
    public static implicit operator Outcome<T>(Failure failure) => new(null, failure);

    /// <summary>For a protocol whose border maps failures: the value.</summary>
    /// <exception cref="FailureException">There is none.</exception>
    public T OrThrow() => Value ?? throw new FailureException(Failure!);
}

/// <summary>Makes outcomes.</summary>
internal static class Outcome
{
    /// <summary>Runs an operation; what it refuses is a value.</summary>
    public static async Task<Outcome<T>> OfAsync<T>(Func<Task<T>> operation)
        where T : class
    {
        try
        {
            return await operation().ConfigureAwait(false);
        }
        catch (FailureException refused)
        {
            return refused.Failure;
        }
    }

    /// <summary>Runs an operation; what it refuses is a value.</summary>
    public static Outcome<T> Of<T>(Func<T> operation)
        where T : class
    {
        try
        {
            return operation();
        }
        catch (FailureException refused)
        {
            return refused.Failure;
        }
    }
}
