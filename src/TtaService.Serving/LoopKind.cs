namespace TtaService.Serving;

/// <summary>What goes on in the background, as a label.</summary>
internal enum LoopKind
{
    /// <summary>Forms batches and runs them; one a model and device. Without it no step is answered.</summary>
    Batcher,

    /// <summary>The thread that owns a model on a device. Without it no step is answered.</summary>
    Device,

    /// <summary>Asks the device threads whether they live.</summary>
    DeviceWatch,

    /// <summary>Writes changed states to the store.</summary>
    Checkpoints,

    /// <summary>Confirms the claims of streams.</summary>
    ClaimRenewal,

    /// <summary>Moves idle streams out of the process.</summary>
    IdleStreams,

    /// <summary>Reads the drift of all streams.</summary>
    DriftSweep,

    /// <summary>Writes sweeps into the history that the pages draw.</summary>
    DriftHistory,

    /// <summary>Runs sampled frames through source.</summary>
    Shadow,

    /// <summary>Looks for models that were added, changed or taken away.</summary>
    ModelWatch,

    /// <summary>Takes streams off a model that was replaced or unloaded.</summary>
    Retirement,
}
