using Google.Protobuf;
using Google.Protobuf.Collections;
using TtaService.Engine;
using TtaService.Inference;
using TtaService.Serving.Streams;
using WireRequest = TtaService.Inference.ModelInferRequest;
using WireResponse = TtaService.Inference.ModelInferResponse;

namespace TtaService.Host.Inference;

/// <summary>Requests and responses as gRPC carries them.</summary>
internal static class WireTensors
{
    /// <exception cref="FailureException">The message is not what the protocol says.</exception>
    public static InferenceRequest Read(WireRequest request, string client)
    {
        var isRaw = request.RawInputContents.Count > 0;
        if (isRaw && request.RawInputContents.Count != request.Inputs.Count)
        {
            throw new FailureException(InferenceErrors.WrongInputs(
                ForeignText.Clip(request.ModelName), $"expected number of raw input contents to be {request.Inputs.Count}, an entry for each input, "
                    + $"but got {request.RawInputContents.Count}"));
        }

        var inputs = new Tensor[request.Inputs.Count];
        for (var i = 0; i < inputs.Length; i++)
        {
            var input = request.Inputs[i];
            if (isRaw && input.Contents is not null)
            {
                throw new FailureException(InferenceErrors.WrongInputs(
                    ForeignText.Clip(request.ModelName),
                    $"contents field must not be specified when using raw_input_contents for '{ForeignText.Clip(input.Name)}'"));
            }

            var datatype = Datatypes.Parse(input.Datatype, input.Name);
            inputs[i] = isRaw
                ? Tensor.Read(input.Name, datatype, input.Shape, request.RawInputContents[i].Memory)
                : ReadTyped(input, datatype);
        }

        return new InferenceRequest
        {
            Model = request.ModelName,
            Version = request.ModelVersion,
            Id = request.Id,
            Parameters = new RequestParameters(request.Parameters.ToDictionary(entry => entry.Key, entry => ValueOf(entry.Key, entry.Value), StringComparer.Ordinal)),
            Inputs = inputs,
            Outputs = [.. request.Outputs.Select(output => new RequestedOutput(output.Name, ClassesOf(output.Parameters)))],
            Client = client,
        };
    }

    public static WireResponse Write(InferenceRequest request, InferenceResponse response)
    {
        var wire = new WireResponse { ModelName = request.Model, ModelVersion = response.Version, Id = request.Id };
        foreach (var (name, value) in response.Parameters)
        {
            wire.Parameters[name] = value switch
            {
                bool set => new InferParameter { BoolParam = set },
                long number => new InferParameter { Int64Param = number },
                double number => new InferParameter { DoubleParam = number },
                _ => new InferParameter { StringParam = (string)value },
            };
        }

        foreach (var output in response.Outputs)
        {
            var tensor = new WireResponse.Types.InferOutputTensor { Name = output.Name, Datatype = output.Datatype.Name() };
            tensor.Shape.AddRange(output.Shape);
            wire.Outputs.Add(tensor);
            wire.RawOutputContents.Add(UnsafeByteOperations.UnsafeWrap(output.Data));
        }

        return wire;
    }

    private static object ValueOf(string name, InferParameter parameter) => parameter.ParameterChoiceCase switch
    {
        InferParameter.ParameterChoiceOneofCase.BoolParam => parameter.BoolParam,
        InferParameter.ParameterChoiceOneofCase.Int64Param => parameter.Int64Param,
        InferParameter.ParameterChoiceOneofCase.Uint64Param => parameter.Uint64Param,
        InferParameter.ParameterChoiceOneofCase.DoubleParam => parameter.DoubleParam,
        InferParameter.ParameterChoiceOneofCase.StringParam => parameter.StringParam,
        _ => throw new FailureException(Failure.Invalid("PARAMETER_INVALID", ForeignText.Clip(name), $"parameter '{ForeignText.Clip(name)}' has no value")),
    };

    private static int ClassesOf(MapField<string, InferParameter> parameters) =>
        !parameters.TryGetValue("classification", out var classes)
            ? 0
            : classes is { ParameterChoiceCase: InferParameter.ParameterChoiceOneofCase.Int64Param, Int64Param: > 0 and <= ReplyContent.MaximumTopK }
                ? (int)classes.Int64Param
                : throw new FailureException(Failure.Invalid(
                    "PARAMETER_INVALID",
                    "classification",
                    $"parameter 'classification' must be an int64 from 1 to {ReplyContent.MaximumTopK}"));

    private static Tensor ReadTyped(WireRequest.Types.InferInputTensor input, Datatype datatype)
    {
        var contents = input.Contents ?? new InferTensorContents();
        var given = Count(contents);
        var fitting = CountOf(contents, datatype);
        if (given != fitting)
        {
            throw Wrong(input, $"has contents of another datatype; {datatype.Name()} elements go to {FieldOf(datatype)}");
        }

        return datatype switch
        {
            Datatype.Bytes => Tensor.Of(input.Name, Fitting(input, fitting), [.. contents.BytesContents.Select(element => element.Memory)]),
            Datatype.Bool => Convert(input, datatype, contents.BoolContents, value => value),
            Datatype.Int8 => Convert(input, datatype, contents.IntContents, value => checked((sbyte)value)),
            Datatype.Int16 => Convert(input, datatype, contents.IntContents, value => checked((short)value)),
            Datatype.Int32 => Convert(input, datatype, contents.IntContents, value => value),
            Datatype.Int64 => Convert(input, datatype, contents.Int64Contents, value => value),
            Datatype.Uint8 => Convert(input, datatype, contents.UintContents, value => checked((byte)value)),
            Datatype.Uint16 => Convert(input, datatype, contents.UintContents, value => checked((ushort)value)),
            Datatype.Uint32 => Convert(input, datatype, contents.UintContents, value => value),
            Datatype.Uint64 => Convert(input, datatype, contents.Uint64Contents, value => value),
            Datatype.Fp32 => Convert(input, datatype, contents.Fp32Contents, value => value),
            Datatype.Fp64 => Convert(input, datatype, contents.Fp64Contents, value => value),
            _ => throw Wrong(input, $"is {datatype.Name()}, which has no typed contents; send raw_input_contents"),
        };
    }

    private static Tensor Convert<T, TElement>(WireRequest.Types.InferInputTensor input, Datatype datatype, RepeatedField<T> contents, Func<T, TElement> convert)
        where TElement : unmanaged
    {
        Fitting(input, contents.Count);
        var values = new TElement[contents.Count];
        try
        {
            for (var i = 0; i < values.Length; i++)
            {
                values[i] = convert(contents[i]);
            }
        }
        catch (OverflowException)
        {
            throw Wrong(input, $"has an element that {datatype.Name()} does not hold");
        }

        return Tensor.Of<TElement>(input.Name, datatype, input.Shape, values);
    }

    private static RepeatedField<long> Fitting(WireRequest.Types.InferInputTensor input, int elements)
    {
        var wanted = Tensor.CountOf(input.Name, input.Shape);
        return wanted == elements ? input.Shape : throw Wrong(input, $"has {elements} elements, not the {wanted} that shape [{string.Join(',', input.Shape)}] says");
    }

    private static FailureException Wrong(WireRequest.Types.InferInputTensor input, string what) =>
        new(Failure.Invalid("TENSOR_SIZE_WRONG", ForeignText.Clip(input.Name), $"input '{ForeignText.Clip(input.Name)}' {what}"));

    private static int Count(InferTensorContents contents) => contents.BoolContents.Count + contents.IntContents.Count + contents.Int64Contents.Count + contents.UintContents.Count
        + contents.Uint64Contents.Count + contents.Fp32Contents.Count + contents.Fp64Contents.Count + contents.BytesContents.Count;

    private static int CountOf(InferTensorContents contents, Datatype datatype) => datatype switch
    {
        Datatype.Bool => contents.BoolContents.Count,
        Datatype.Int8 or Datatype.Int16 or Datatype.Int32 => contents.IntContents.Count,
        Datatype.Int64 => contents.Int64Contents.Count,
        Datatype.Uint8 or Datatype.Uint16 or Datatype.Uint32 => contents.UintContents.Count,
        Datatype.Uint64 => contents.Uint64Contents.Count,
        Datatype.Fp32 => contents.Fp32Contents.Count,
        Datatype.Fp64 => contents.Fp64Contents.Count,
        Datatype.Bytes => contents.BytesContents.Count,
        _ => 0,
    };

    private static string FieldOf(Datatype datatype) => datatype switch
    {
        Datatype.Bool => "bool_contents",
        Datatype.Int8 or Datatype.Int16 or Datatype.Int32 => "int_contents",
        Datatype.Int64 => "int64_contents",
        Datatype.Uint8 or Datatype.Uint16 or Datatype.Uint32 => "uint_contents",
        Datatype.Uint64 => "uint64_contents",
        Datatype.Fp32 => "fp32_contents",
        Datatype.Fp64 => "fp64_contents",
        Datatype.Bytes => "bytes_contents",
        _ => "raw_input_contents",
    };
}
