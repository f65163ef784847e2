using TtaService.Engine.Answers;
using TtaService.Engine.Calibration;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Execution;

/// <summary>How a model is loaded.</summary>
public sealed record AdaptiveModelOptions
{
    /// <summary><c>cpu</c> or <c>cuda:N</c>. Default cpu.</summary>
    public string Device { get; init; } = "cpu";

    /// <summary>Of weights and activations. Default fp32.</summary>
    public Precision Precision { get; init; }

    /// <summary>How pixels become input values. Default null: ImageNet's for a graph that takes floating point, the pixels themselves for one that takes integers. Not
    /// used for float frames.</summary>
    public InputNormalization? InputNormalization { get; init; }

    /// <summary>How the input's axes lie. Default null: by its shape, [N,H,W,C] where only the last axis has 1 or 3 extents.</summary>
    public InputLayout? Layout { get; init; }

    /// <summary>What inputs beside the image are fed, by their names: a value each, or one for all of an input's. The others are told by their names (im_shape,
    /// scale_factor, …).</summary>
    public IReadOnlyDictionary<string, IReadOnlyList<InputTerm>> SideInputs { get; init; } = new Dictionary<string, IReadOnlyList<InputTerm>>();

    /// <summary>What outputs are, by their names; the others are decided from the graph.</summary>
    public IReadOnlyDictionary<string, OutputKind> OutputKinds { get; init; } = new Dictionary<string, OutputKind>();

    /// <summary>How boxes are read, for a detector.</summary>
    public DetectionSettings Detection { get; init; } = new();

    /// <summary>How many classes have a name; null when none has. The output that predictions are read from must have as many.</summary>
    public int? Labels { get; init; }

    /// <summary>Most threads of a pass; short passes run on one. Default 0: torch's, one a physical core.</summary>
    public int Threads { get; init; }

    /// <summary>Most bytes of memory that are held for the states of resident streams, free rows included. Default: a quarter of the memory that the process may use, or
    /// on a GPU of what is free there once the model is loaded.</summary>
    public long? ArenaBytes { get; init; }

    /// <summary>Most bytes of activations that a pass keeps for its way back, where streams learn by gradients (<c>tent</c>): more streams go in several passes, and a step
    /// that alone needs more is refused. Default: a quarter of the memory that the process may use, or on a GPU of what is free there once the model is loaded.</summary>
    public long? GradientBytes { get; init; }

    /// <summary>A quarter of the memory that the process may use.</summary>
    public static long DefaultArenaBytes => GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / 4;

    /// <summary>Observe what the sites see of each stream, which drift is read from. Default null: not.</summary>
    public ObservationOptions? Observation { get; init; }

    /// <summary>What is normal for the model, as measured by <see cref="Calibrator"/>. Default null: uncalibrated, unless <see cref="CalibrationPath"/> names a file.</summary>
    public ModelCalibration? Calibration { get; init; }

    /// <summary>The file that <see cref="Calibration"/> is read from when it is null.</summary>
    public string? CalibrationPath { get; init; }

    /// <summary>Load the model to be measured by <see cref="Calibrator"/>: sites at the source, virtual ones at every convolution where one can be, no calibration; only
    /// <c>source</c> runs. Default false.</summary>
    public bool ForCalibration { get; init; }

    /// <summary>Height and width of the frames that will come, for a model that leaves them open: what it can do with several frames in a pass is tried with frames of
    /// this size. Default null: usual sizes are tried.</summary>
    public (int Height, int Width)? FrameSize { get; init; }

    /// <summary>The process serves models and nothing else: freed activations stay with it (glibc's mallopt), and torch's number of threads stays as the last pass had
    /// it. Default false: both belong to whoever embeds the engine.</summary>
    public bool OwnsProcess { get; init; }

    /// <summary>What streams may learn from, and when they go back to the source by themselves; null learns everything that is finite, as published code does.</summary>
    public LearningOptions? Learning { get; init; } = new();

    /// <summary>The methods that streams can have. Default: the engine's own.</summary>
    public MethodRegistry Methods { get; init; } = MethodRegistry.BuiltIn;

    /// <summary>Take the path of other devices on the CPU, too: for comparing the two.</summary>
    internal bool UsesTorchOperators { get; init; }

    /// <summary>What methods draw at random is drawn as on the model of this digest; null as on this one: for comparing two files of one network.</summary>
    internal string? DrawsAs { get; init; }
}

/// <summary>In which weights and activations are kept. Statistics are float32 in any.</summary>
public enum Precision
{
    /// <summary>IEEE single precision; convolutions on CUDA use TF32, as PyTorch's do.</summary>
    Fp32,

    /// <summary>bfloat16: half the memory traffic. For GPUs that have it.</summary>
    Bf16,
}
