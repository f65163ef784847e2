using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>Failures in the words that clients of the Open Inference Protocol match on.</summary>
internal static class InferenceErrors
{
    public static Failure UnknownModel(string name, string version) => new(
        FailureKind.NotFound,
        "MODEL_NOT_FOUND",
        version.Length == 0
            ? $"Request for unknown model: '{ForeignText.Clip(name)}' is not found"
            : $"Request for unknown model: '{ForeignText.Clip(name)}' version {ForeignText.Clip(version)} is not found")
    {
        Field = "model_name",
    };

    public static Failure NotReady(string name, string why) =>
        new(FailureKind.Unavailable, "MODEL_BROKEN", $"Request for unknown model: '{name}' has no available versions: {why}") { Field = "model_name" };

    public static FailureException NotLoaded(string name, Failure why) => new(why with { Message = $"failed to load '{ForeignText.Clip(name)}': {why.Message}" });

    public static Failure MustStart(string sequence, string model) => Failure.Invalid(
        "SEQUENCE_NOT_STARTED", "sequence_id", $"inference request for sequence {ForeignText.Clip(sequence)} to model '{model}' must specify the START flag on the first "
            + "request of the sequence");

    public static Failure NoSequence(string model) => Failure.Invalid(
        "SEQUENCE_MISSING", "sequence_id", $"inference request to model '{model}' must specify a non-zero or non-empty correlation ID");

    public static Failure WrongInputs(string model, string what) => Failure.Invalid("INPUTS_WRONG", "inputs", $"{what} for model '{model}'");
}
