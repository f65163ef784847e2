namespace TtaService.Engine.Execution;

/// <summary>Runs steps of different streams in one pass and commits their states, where the states are.</summary>
internal interface IBatchRunner
{
    /// <summary>Runs the steps at the given indices and fills their results.</summary>
    /// <param name="steps">At most one of a stream; frames of one C, H, W.</param>
    /// <param name="indices">Which of them run.</param>
    /// <param name="results">One a step; those of the indices are written.</param>
    /// <param name="adapts">False for steps that neither adapt nor are observed: the graph with folded BatchNorm answers them.</param>
    void Run(IReadOnlyList<StreamStep> steps, List<int> indices, StepResult[] results, bool adapts);
}
