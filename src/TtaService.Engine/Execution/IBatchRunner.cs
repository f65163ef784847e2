namespace TtaService.Engine.Execution;

/// <summary>Runs steps of different streams in passes together and proposes their states, where the states are.</summary>
internal interface IBatchRunner
{
    /// <summary>Runs the steps at the given indices and fills their results; nothing is committed yet.</summary>
    /// <param name="steps">At most one of a stream; frames of one C, H, W.</param>
    /// <param name="indices">Which of them run.</param>
    /// <param name="results">One a step; those of the indices are written.</param>
    /// <param name="form">How they run.</param>
    /// <returns>What is to be committed.</returns>
    IProposedSteps Run(IReadOnlyList<StreamStep> steps, IReadOnlyList<int> indices, StepResult[] results, PassForm form);
}

/// <summary>States and counters that steps propose. Disposing gives back the memory of those that were not committed.</summary>
internal interface IProposedSteps : IDisposable
{
    /// <summary>Moves the states of the steps that succeeded, all or, when it throws, none.</summary>
    void Write();

    /// <summary>Moves the states back, as far as the device can.</summary>
    void TryUndo();

    /// <summary>Moves what can't fail to move: the counters of the steps that succeeded, and states in the host's memory.</summary>
    void Count();
}

/// <summary>How steps run.</summary>
internal enum PassForm
{
    /// <summary>They neither adapt nor are observed: the graph with folded BatchNorm answers them.</summary>
    Folded,

    /// <summary>Their methods decide at the sites.</summary>
    Adaptive,

    /// <summary>And their streams' scales and biases are moved by gradients: steps that teach, of methods that do so and take as many rounds.</summary>
    Trained,
}
