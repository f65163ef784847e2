using TtaService.Engine;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>What the elements of a tensor are, as the Open Inference Protocol names it.</summary>
internal enum Datatype
{
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,

    /// <summary>Texts or files, each of its own length.</summary>
    Bytes,
}

internal static class Datatypes
{
    private static readonly Datatype[] All = Enum.GetValues<Datatype>();

    /// <summary>The name on the wire: <c>FP32</c>.</summary>
    public static string Name(this Datatype type) => $"{type}".ToUpperInvariant();

    /// <summary>Bytes of an element; 0 for <see cref="Datatype.Bytes"/>.</summary>
    public static int Size(this Datatype type) => type switch
    {
        Datatype.Bool or Datatype.Uint8 or Datatype.Int8 => 1,
        Datatype.Uint16 or Datatype.Int16 or Datatype.Fp16 or Datatype.Bf16 => 2,
        Datatype.Uint32 or Datatype.Int32 or Datatype.Fp32 => 4,
        Datatype.Uint64 or Datatype.Int64 or Datatype.Fp64 => 8,
        _ => 0,
    };

    /// <exception cref="FailureException">There is no such datatype.</exception>
    public static Datatype Parse(string name, string tensor)
    {
        foreach (var type in All)
        {
            if (type.Name() == name)
            {
                return type;
            }
        }

        throw new FailureException(Failure.Invalid("DATATYPE_UNKNOWN", tensor, $"datatype '{ForeignText.Clip(name)}' of '{ForeignText.Clip(tensor)}' does not exist; there is {string.Join(", ", All.Select(Name))}"));
    }
}
