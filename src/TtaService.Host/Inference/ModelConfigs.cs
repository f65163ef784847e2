using TtaService.Inference;

namespace TtaService.Host.Inference;

/// <summary>A model's description as Triton's configuration.</summary>
internal static class ModelConfigs
{
    public static ModelConfig Of(InferenceModelDescription model)
    {
        var config = new ModelConfig { Name = model.Name, Platform = model.Platform, Backend = "tta", MaxBatchSize = model.MaxBatch };
        config.Input.AddRange(model.Inputs.Select(input =>
        {
            var wire = new ModelInput { Name = input.Name, DataType = TypeOf(input.Datatype) };
            wire.Dims.AddRange(Row(model, input.Shape));
            return wire;
        }));
        config.Output.AddRange(model.Outputs.Select(output =>
        {
            var wire = new ModelOutput { Name = output.Name, DataType = TypeOf(output.Datatype) };
            wire.Dims.AddRange(Row(model, output.Shape));
            return wire;
        }));
        foreach (var (name, value) in model.Facts)
        {
            config.Parameters[name] = new ModelParameter { StringValue = value };
        }

        if (model.HasSequences)
        {
            config.SequenceBatching = new ModelSequenceBatching { MaxSequenceIdleMicroseconds = (ulong)model.SequenceIdle.TotalMicroseconds };
        }

        if (model.IsDecoupled)
        {
            config.ModelTransactionPolicy = new ModelTransactionPolicy { Decoupled = true };
        }

        return config;
    }

    // Without the batch axis, where there is one.
    private static IEnumerable<long> Row(InferenceModelDescription model, IReadOnlyList<long> shape) => model.MaxBatch > 0 ? shape.Skip(1) : shape;

    private static DataType TypeOf(Datatype type) => type switch
    {
        Datatype.Bool => DataType.TypeBool,
        Datatype.Uint8 => DataType.TypeUint8,
        Datatype.Uint16 => DataType.TypeUint16,
        Datatype.Uint32 => DataType.TypeUint32,
        Datatype.Uint64 => DataType.TypeUint64,
        Datatype.Int8 => DataType.TypeInt8,
        Datatype.Int16 => DataType.TypeInt16,
        Datatype.Int32 => DataType.TypeInt32,
        Datatype.Int64 => DataType.TypeInt64,
        Datatype.Fp16 => DataType.TypeFp16,
        Datatype.Bf16 => DataType.TypeBf16,
        Datatype.Fp32 => DataType.TypeFp32,
        Datatype.Fp64 => DataType.TypeFp64,
        _ => DataType.TypeString,
    };
}
