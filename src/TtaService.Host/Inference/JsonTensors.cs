using System.Globalization;
using System.Text;
using System.Text.Json;
using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>Requests and responses as REST carries them: JSON, and behind it the tensors that are binary (the binary tensor data extension).</summary>
internal static class JsonTensors
{
    private const string BinarySize = "binary_data_size";

    private static readonly JsonDocumentOptions Strict = new() { MaxDepth = 32 };

    /// <param name="body">The whole body.</param>
    /// <param name="headerLength">Bytes of JSON in it.</param>
    /// <param name="model">From the path.</param>
    /// <param name="version">From the path; empty for the one that is served.</param>
    /// <param name="client">Who asks.</param>
    /// <param name="binary">The outputs that go behind the JSON of the response; null for none of them all.</param>
    /// <exception cref="FailureException">It is not what the protocol says.</exception>
    public static InferenceRequest Read(ReadOnlyMemory<byte> body, int headerLength, string model, string version, string client, out Func<string, bool> binary)
    {
        if (headerLength < 0 || headerLength > body.Length)
        {
            throw Wrong("Inference-Header-Content-Length", $"the header Inference-Header-Content-Length must be 0 to the body's {body.Length} bytes, not {headerLength}");
        }

        try
        {
            using var json = JsonDocument.Parse(body[..headerLength], Strict);
            var root = json.RootElement;
            var rest = body[headerLength..];
            Tensor[] inputs = [.. Items(root, "inputs").Select(input => ReadInput(input, ref rest))];
            if (rest.Length > 0)
            {
                throw Wrong("inputs", $"{rest.Length} bytes follow that no input names by {BinarySize}");
            }

            var parameters = new RequestParameters(Parameters(root));
            var outputs = Items(root, "outputs").Select(output => (Asked: new RequestedOutput(Text(output, "name"), Classes(output)), Parameters: Parameters(output))).ToArray();
            var chosen = outputs.ToLookup(output => output.Asked.Name, output => output.Parameters.TryGetValue("binary_data", out var set) ? set as bool? : null);
            binary = name => chosen[name].FirstOrDefault() ?? parameters.BinaryOutput;
            return new InferenceRequest
            {
                Model = model,
                Version = version,
                Id = root.TryGetProperty("id", out var id) ? id.GetString() ?? string.Empty : string.Empty,
                Parameters = parameters,
                Inputs = inputs,
                Outputs = [.. outputs.Select(output => output.Asked)],
                Client = client,
            };
        }
        catch (Exception unreadable) when (unreadable is JsonException or InvalidOperationException or FormatException)
        {
            throw Wrong("body", $"failed to parse the request JSON buffer: {unreadable.Message}");
        }
    }

    /// <summary>The response's JSON, and the tensors behind it.</summary>
    public static (byte[] Json, IReadOnlyList<ReadOnlyMemory<byte>> Binary) Write(InferenceRequest request, InferenceResponse response, Func<string, bool> binary)
    {
        using var buffer = new MemoryStream();
        var tail = new List<ReadOnlyMemory<byte>>();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (request.Id.Length > 0)
            {
                json.WriteString("id", request.Id);
            }

            json.WriteString("model_name", request.Model);
            json.WriteString("model_version", response.Version);
            if (response.Parameters.Count > 0)
            {
                WriteParameters(json, response.Parameters);
            }

            json.WriteStartArray("outputs");
            foreach (var output in response.Outputs)
            {
                json.WriteStartObject();
                json.WriteString("name", output.Name);
                json.WriteString("datatype", output.Datatype.Name());
                json.WriteStartArray("shape");
                foreach (var extent in output.Shape)
                {
                    json.WriteNumberValue(extent);
                }

                json.WriteEndArray();
                if (binary(output.Name))
                {
                    WriteParameters(json, new Dictionary<string, object> { [BinarySize] = (long)output.Data.Length });
                    tail.Add(output.Data);
                }
                else
                {
                    json.WriteStartArray("data");
                    WriteData(json, output);
                    json.WriteEndArray();
                }

                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return (buffer.ToArray(), tail);
    }

    private static void WriteParameters(Utf8JsonWriter json, IReadOnlyDictionary<string, object> parameters)
    {
        json.WriteStartObject("parameters");
        foreach (var (name, value) in parameters)
        {
            json.WritePropertyName(name);
            JsonSerializer.Serialize(json, value);
        }

        json.WriteEndObject();
    }

    private static void WriteData(Utf8JsonWriter json, Tensor tensor)
    {
        switch (tensor.Datatype)
        {
            case Datatype.Bytes:
                foreach (var text in tensor.Texts())
                {
                    json.WriteStringValue(text.Span);
                }

                break;
            case Datatype.Bool:
                foreach (var value in tensor.Data.Span)
                {
                    json.WriteBooleanValue(value != 0);
                }

                break;
            case Datatype.Fp32:
                foreach (var value in tensor.As<float>())
                {
                    WriteNumber(json, value);
                }

                break;
            case Datatype.Fp64:
                foreach (var value in tensor.As<double>())
                {
                    WriteNumber(json, value);
                }

                break;
            case Datatype.Fp16 or Datatype.Bf16:
                throw Wrong("outputs", $"{tensor.Datatype.Name()} has no JSON form; ask for binary_data");
            default:
                for (var i = 0; i < tensor.Elements; i++)
                {
                    json.WriteRawValue(Whole(tensor, i));
                }

                break;
        }
    }

    // JSON has no word for what is not finite.
    private static void WriteNumber(Utf8JsonWriter json, double value)
    {
        if (double.IsFinite(value))
        {
            json.WriteNumberValue(value);
        }
        else
        {
            json.WriteNullValue();
        }
    }

    private static void WriteNumber(Utf8JsonWriter json, float value)
    {
        if (float.IsFinite(value))
        {
            json.WriteNumberValue(value);
        }
        else
        {
            json.WriteNullValue();
        }
    }

    private static string Whole(Tensor tensor, int index) => tensor.Datatype switch
    {
        Datatype.Int8 => tensor.As<sbyte>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Int16 => tensor.As<short>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Int32 => tensor.As<int>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Int64 => tensor.As<long>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Uint8 => tensor.As<byte>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Uint16 => tensor.As<ushort>()[index].ToString(CultureInfo.InvariantCulture),
        Datatype.Uint32 => tensor.As<uint>()[index].ToString(CultureInfo.InvariantCulture),
        _ => tensor.As<ulong>()[index].ToString(CultureInfo.InvariantCulture),
    };

    private static Tensor ReadInput(JsonElement input, ref ReadOnlyMemory<byte> rest)
    {
        var name = Text(input, "name");
        var datatype = Datatypes.Parse(Text(input, "datatype"), name);
        long[] shape = [.. Items(input, "shape").Select(extent => extent.GetInt64())];
        if (Parameters(input).TryGetValue(BinarySize, out var size))
        {
            if (size is not long bytes || bytes < 0 || bytes > rest.Length)
            {
                throw Wrong(name, $"{BinarySize} of input '{ForeignText.Clip(name)}' must be 0 to the {rest.Length} bytes that follow");
            }

            var data = rest[..(int)bytes];
            rest = rest[(int)bytes..];
            return Tensor.Read(name, datatype, shape, data);
        }

        if (!input.TryGetProperty("data", out var values))
        {
            throw Wrong(name, $"input '{ForeignText.Clip(name)}' has neither data nor {BinarySize}");
        }

        var elements = new List<JsonElement>();
        Flatten(values, elements);
        return elements.Count == Tensor.CountOf(name, shape)
            ? ReadData(name, datatype, shape, elements)
            : throw Wrong(
                name,
                $"input '{ForeignText.Clip(name)}' has {elements.Count} elements, not the {Tensor.CountOf(name, shape)} that shape [{string.Join(',', shape)}] says");
    }

    private static Tensor ReadData(string name, Datatype datatype, IReadOnlyList<long> shape, List<JsonElement> elements) => datatype switch
    {
        Datatype.Bytes => Tensor.Of(name, shape, [.. elements.Select(text => (ReadOnlyMemory<byte>)Encoding.UTF8.GetBytes(text.GetString() ?? string.Empty))]),
        Datatype.Bool => Convert(name, datatype, shape, elements, static value => value.GetBoolean()),
        Datatype.Int8 => Convert(name, datatype, shape, elements, static value => value.GetSByte()),
        Datatype.Int16 => Convert(name, datatype, shape, elements, static value => value.GetInt16()),
        Datatype.Int32 => Convert(name, datatype, shape, elements, static value => value.GetInt32()),
        Datatype.Int64 => Convert(name, datatype, shape, elements, static value => value.GetInt64()),
        Datatype.Uint8 => Convert(name, datatype, shape, elements, static value => value.GetByte()),
        Datatype.Uint16 => Convert(name, datatype, shape, elements, static value => value.GetUInt16()),
        Datatype.Uint32 => Convert(name, datatype, shape, elements, static value => value.GetUInt32()),
        Datatype.Uint64 => Convert(name, datatype, shape, elements, static value => value.GetUInt64()),
        Datatype.Fp32 => Convert(name, datatype, shape, elements, static value => value.GetSingle()),
        Datatype.Fp64 => Convert(name, datatype, shape, elements, static value => value.GetDouble()),
        _ => throw Wrong(name, $"{datatype.Name()} has no JSON form; send it behind the JSON, with {BinarySize}"),
    };

    private static Tensor Convert<T>(string name, Datatype datatype, IReadOnlyList<long> shape, List<JsonElement> elements, Func<JsonElement, T> convert)
        where T : unmanaged
    {
        var values = new T[elements.Count];
        for (var i = 0; i < values.Length; i++)
        {
            values[i] = convert(elements[i]);
        }

        return Tensor.Of<T>(name, datatype, shape, values);
    }

    // Depth is bounded by the parser.
    private static void Flatten(JsonElement values, List<JsonElement> elements)
    {
        foreach (var value in values.EnumerateArray())
        {
            if (value.ValueKind == JsonValueKind.Array)
            {
                Flatten(value, elements);
            }
            else
            {
                elements.Add(value);
            }
        }
    }

    private static JsonElement[] Items(JsonElement from, string name) => from.TryGetProperty(name, out var items) ? [.. items.EnumerateArray()] : [];

    private static string Text(JsonElement from, string name) =>
        from.TryGetProperty(name, out var text) && text.ValueKind == JsonValueKind.String ? text.GetString()! : throw Wrong(name, $"'{name}' is missing, or no string");

    private static int Classes(JsonElement output) => !Parameters(output).TryGetValue("classification", out var classes)
        ? 0
        : classes is long and > 0 and <= ReplyContent.MaximumTopK
            ? (int)(long)classes
            : throw Wrong("classification", $"parameter 'classification' must be an integer from 1 to {ReplyContent.MaximumTopK}");

    private static Dictionary<string, object> Parameters(JsonElement from)
    {
        var read = new Dictionary<string, object>(StringComparer.Ordinal);
        if (!from.TryGetProperty("parameters", out var parameters))
        {
            return read;
        }

        foreach (var parameter in parameters.EnumerateObject())
        {
            read[parameter.Name] = parameter.Value.ValueKind switch
            {
                JsonValueKind.True or JsonValueKind.False => parameter.Value.GetBoolean(),
                JsonValueKind.String => parameter.Value.GetString()!,
                JsonValueKind.Number when parameter.Value.TryGetInt64(out var whole) => whole,
                JsonValueKind.Number when parameter.Value.TryGetUInt64(out var whole) => whole,
                JsonValueKind.Number => parameter.Value.GetDouble(),
                _ => throw Wrong(parameter.Name, $"parameter '{ForeignText.Clip(parameter.Name)}' must be a number, a string or a boolean"),
            };
        }

        return read;
    }

    private static FailureException Wrong(string field, string what) => new(Failure.Invalid("REQUEST_UNREADABLE", ForeignText.Clip(field), what));
}
