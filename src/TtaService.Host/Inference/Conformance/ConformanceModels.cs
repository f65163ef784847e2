namespace TtaService.Host.Inference.Conformance;

/// <summary>The small models that the examples of the Open Inference Protocol's clients ask for. No networks; for trying clients, never for production.</summary>
internal static class ConformanceModels
{
    /// <summary>Batches that they take.</summary>
    public const int MaxBatch = 8;

    public static IReadOnlyList<IInferenceModel> All() =>
    [
        new AddSubModel("simple", Datatype.Int32),
        new AddSubModel("simple_int8", Datatype.Int8),
        new AddSubModel("simple_string", Datatype.Bytes),
        new IdentityModel(),
        SequenceModel.Counting("simple_sequence", addsId: false),
        SequenceModel.Counting("simple_dyna_sequence", addsId: true),
        SequenceModel.Summing("simple_string_dyna_sequence"),
        new RepeatModel(),
    ];

    /// <summary>The inputs in the order of the description.</summary>
    /// <exception cref="Serving.Streams.FailureException">They do not fit it.</exception>
    public static IReadOnlyList<Tensor> Fitting(InferenceModelDescription model, InferenceRequest request)
    {
        if (request.Inputs.Count != model.Inputs.Count)
        {
            throw Wrong(model, $"expected {model.Inputs.Count} inputs but got {request.Inputs.Count} inputs");
        }

        return [.. model.Inputs.Select(wanted => Fitting(model, wanted, request.Inputs.FirstOrDefault(input => input.Name == wanted.Name)))];
    }

    /// <summary>Of the outputs those that are asked for, in that order.</summary>
    /// <exception cref="Serving.Streams.FailureException">One does not exist.</exception>
    public static InferenceResponse Answer(InferenceModelDescription model, InferenceRequest request, params Tensor[] outputs) => new()
    {
        Outputs = request.Outputs.Count == 0
            ? outputs
            : [.. request.Outputs.Select(asked => outputs.FirstOrDefault(output => output.Name == asked.Name) ?? throw Wrong(model, $"unexpected inference output '{Engine.ForeignText.Clip(asked.Name)}'"))],
    };

    private static Tensor Fitting(InferenceModelDescription model, TensorDescription wanted, Tensor? input)
    {
        if (input is null)
        {
            throw Wrong(model, $"input '{wanted.Name}' is missing");
        }

        if (input.Datatype != wanted.Datatype)
        {
            throw Wrong(model, $"inference input '{wanted.Name}' data-type is '{input.Datatype.Name()}', not '{wanted.Datatype.Name()}' as expected");
        }

        var fits = input.Shape.Count == wanted.Shape.Count && !input.Shape.Where((extent, i) => wanted.Shape[i] >= 0 && wanted.Shape[i] != extent).Any();
        return fits && (model.MaxBatch == 0 || input.Shape[0] is > 0 and <= MaxBatch)
            ? input
            : throw Wrong(model, $"unexpected shape for input '{wanted.Name}': expected [{string.Join(',', wanted.Shape)}], got [{string.Join(',', input.Shape)}]");
    }

    private static Serving.Streams.FailureException Wrong(InferenceModelDescription model, string what) => new(InferenceErrors.WrongInputs(model.Name, what));
}
