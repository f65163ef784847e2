using System.ComponentModel.DataAnnotations;
using TtaService.Engine.Execution;

namespace TtaService.Serving.Models;

/// <summary>What becomes of the streams of a model that is replaced while the service runs.</summary>
public enum ReplacedStreams
{
    /// <summary>They move to the new model with their next step, in the same call: with their state when it is the same graph, else from the source statistics.</summary>
    Move,

    /// <summary>A stream that a call has open stays on the model before until the call ends; the others move.</summary>
    Drain,
}

/// <summary>Which models are served and where they run, section <c>Models</c>.</summary>
public sealed class ModelsOptions
{
    /// <summary>The model repository: a folder with a folder a model. Relative to the current directory. Default <c>models</c>.</summary>
    [Required]
    public string Path { get; set; } = "models";

    /// <summary>A model that can't be served ends the start. Default false: it is named with its reason, and the others serve.</summary>
    public bool FailOnBroken { get; set; }

    /// <summary><c>cpu</c> or <c>cuda:N</c>, or several with commas between: an engine each, and new streams go where the least state is. Default cpu.</summary>
    [Required]
    [RegularExpression(" *(cpu|cuda(:[0-9]{1,3})?) *(, *(cpu|cuda(:[0-9]{1,3})?) *)*", ErrorMessage = "cpu or cuda:N, or several with commas between")]
    public string Device { get; set; } = "cpu";

    /// <summary><c>fp32</c>, or <c>bf16</c>: weights and activations in bfloat16, statistics still in float32. For GPUs that have it; a CPU is slower with it. Default
    /// fp32.</summary>
    public Precision Precision { get; set; }

    /// <summary>Most threads of a forward pass on the CPU; short passes run on one. Default 0: one a physical core.</summary>
    [Range(0, 1024)]
    public int Threads { get; set; }

    /// <summary>Bytes of stream state that are kept at hand per model and device; the least recently used streams leave beyond it and come back on their next step. Default 0: a
    /// quarter of the memory that the process may use, or of what is free on its GPU.</summary>
    [Range(0, long.MaxValue)]
    public long ArenaBytes { get; set; }

    /// <summary>How often the repository is looked at for models that were added, changed or taken away. A change is taken up once it is the same in two looks. Default 0: only
    /// who asks for it has a model loaded.</summary>
    [Range(typeof(TimeSpan), "00:00:00", "1.00:00:00")]
    public TimeSpan WatchEvery { get; set; }

    /// <summary>What becomes of the streams of a model that is replaced. Default move.</summary>
    public ReplacedStreams ReplacedStreams { get; set; }

    /// <summary>Whether clients may have models loaded and unloaded. Default true.</summary>
    public bool AllowChanges { get; set; } = true;

    /// <summary>Bytes of activations that a pass of a model keeps for its way back, where streams learn by gradients (<c>tent</c>); a step that alone needs more is refused.
    /// Default 0: a quarter of the memory that the process may use, or of what is free on its GPU.</summary>
    [Range(0, long.MaxValue)]
    public long GradientBytes { get; set; }
}
