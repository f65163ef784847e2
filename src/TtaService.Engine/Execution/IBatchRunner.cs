namespace TtaService.Engine.Execution;

/// <summary>Runs steps of different streams in passes together and proposes their states, where the states are.</summary>
internal interface IBatchRunner
{
    /// <summary>Runs the steps at the given indices and fills their results; nothing is committed yet.</summary>
    /// <param name="steps">At most one of a stream; frames of one C, H, W.</param>
    /// <param name="indices">Which of them run.</param>
    /// <param name="results">One a step; those of the indices are written.</param>
    /// <param name="adapts">False for steps that neither adapt nor are observed: the graph with folded BatchNorm answers them.</param>
    /// <returns>What is to be committed.</returns>
    IProposedSteps Run(IReadOnlyList<StreamStep> steps, IReadOnlyList<int> indices, StepResult[] results, bool adapts);
}

/// <summary>States and counters that steps propose. Disposing gives back the memory of those that were not committed.</summary>
internal interface IProposedSteps : IDisposable
{
    /// <summary>Moves the states and counters of the steps that succeeded, all or, when it throws, none.</summary>
    void Commit();
}
