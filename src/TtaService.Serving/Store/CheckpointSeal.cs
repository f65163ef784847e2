using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using TtaService.Engine.Streams;

namespace TtaService.Serving.Store;

/// <summary>Turns snapshots into checkpoint files and back: adds whose they are and a checksum to the metadata of the safetensors file, which stays one. Thread-safe.</summary>
/// <remarks>The checksum covers every byte of the file, itself taken as zeros.</remarks>
internal sealed class CheckpointSeal
{
    public const int MinKeyBytes = 32;

    /// <summary>Longest record that is stored with a state; a longer one is left out. Half of the longest header that is read back, which holds the tensors' names, too.</summary>
    public const int MaxRecordCharacters = Safetensors.MaxHeaderBytes / 2;

    private const string Version = "tta.checkpoint.v1";
    private const string VersionFamily = "tta.checkpoint.v";
    private const string Plain = "sha256:";
    private const string Keyed = "hmac-sha256:";
    private const int DigestCharacters = 64;

    private readonly SnapshotCodec _codec;
    private readonly byte[]? _key;
    private readonly TimeProvider _clock;
    private readonly string _algorithm;

    /// <param name="codec">Encodes the tensors.</param>
    /// <param name="key">Keys the checksums; null for plain ones.</param>
    /// <param name="clock">Dates the checkpoints.</param>
    public CheckpointSeal(SnapshotCodec codec, byte[]? key, TimeProvider clock)
    {
        if (key is not null)
        {
            ArgumentOutOfRangeException.ThrowIfLessThan(key.Length, MinKeyBytes, nameof(key));
        }

        (_codec, _key, _clock) = (codec, key, clock);
        _algorithm = key is null ? Plain : Keyed;
    }

    /// <summary>The file to store.</summary>
    /// <exception cref="SnapshotException">The snapshot is not one.</exception>
    public byte[] Seal(StreamClaim claim, PendingCheckpoint checkpoint)
    {
        var encoded = _codec.Encode(checkpoint.Snapshot);
        var metadata = new Dictionary<string, string>(Safetensors.Read(encoded).Metadata)
        {
            ["checkpoint"] = Version,
            ["stream"] = claim.Stream,
            ["epoch"] = claim.Epoch.ToString(CultureInfo.InvariantCulture),
            ["owner"] = claim.Owner,
            ["sequence"] = checkpoint.Sequence.ToString(CultureInfo.InvariantCulture),
            ["record"] = Fitting(checkpoint.Record),
            ["saved"] = _clock.GetUtcNow().ToString("O", CultureInfo.InvariantCulture),
            ["checksum"] = _algorithm + new string('0', DigestCharacters),
        };
        if (checkpoint.ModelName.Length > 0)
        {
            metadata["model_name"] = checkpoint.ModelName;
        }

        var file = Safetensors.WithMetadata(encoded, metadata);
        var digest = Digest(file, DigestStart(file, _algorithm)!.Value, _algorithm);
        Encoding.ASCII.GetBytes(digest, file.AsSpan(DigestStart(file, _algorithm)!.Value));
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(file) <= Safetensors.MaxHeaderBytes
            ? file
            : throw new SnapshotException($"the checkpoint's header has {System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(file)} bytes, "
                + $"at most {Safetensors.MaxHeaderBytes} are read back");
    }

    // What can't be read back must not be written: the state is worth more than what belongs to it.
    private static string Fitting(string record) => record.Length <= MaxRecordCharacters ? record : "";

    /// <summary>Checks a stored file and takes the state out.</summary>
    /// <param name="stream">The stream that it is stored for.</param>
    /// <param name="number">The number that it is stored under.</param>
    /// <param name="file">The stored bytes.</param>
    /// <exception cref="CheckpointRefusedException">It is damaged, foreign, forged or of a later version.</exception>
    public StoredCheckpoint Unseal(string stream, long number, byte[] file)
    {
        var description = Verify(file, number);
        if (description.Stream != stream)
        {
            throw new CheckpointRefusedException("foreign", $"the checkpoint is of stream '{description.Stream}', not of '{stream}'");
        }

        try
        {
            return new StoredCheckpoint(description, _codec.Decode(file), Safetensors.Read(file).Metadata.GetValueOrDefault("record") ?? "");
        }
        catch (SnapshotException e)
        {
            throw new CheckpointRefusedException("foreign", e.Message);
        }
    }

    /// <summary>Checks a checkpoint file and says what it is.</summary>
    /// <exception cref="CheckpointRefusedException">It is damaged, foreign, forged or of a later version.</exception>
    public CheckpointDescription Verify(byte[] file, long number)
    {
        var content = Read(file);
        var version = content.Metadata.GetValueOrDefault("checkpoint")
            ?? throw new CheckpointRefusedException("foreign", "the file is safetensors, but no checkpoint of a stream");
        if (version != Version)
        {
            throw version.StartsWith(VersionFamily, StringComparison.Ordinal)
                ? new CheckpointRefusedException("future_version", $"the checkpoint is of version '{version}', this program reads '{Version}'; use a newer program")
                : new CheckpointRefusedException("foreign", $"the file says it is '{version}', expected '{Version}'");
        }

        var checksum = content.Metadata.GetValueOrDefault("checksum") ?? "";
        var algorithm = checksum.StartsWith(Keyed, StringComparison.Ordinal) ? Keyed : Plain;
        if (_key is not null && algorithm == Plain)
        {
            throw new CheckpointRefusedException("forged", "the checkpoint's checksum is not keyed, and Store:SigningKeyFile asks for that");
        }

        if (_key is null && algorithm == Keyed)
        {
            throw new CheckpointRefusedException("foreign", "the checkpoint's checksum is keyed; set Store:SigningKeyFile to its key");
        }

        if (DigestStart(file, algorithm) is not { } start || checksum != algorithm + Encoding.ASCII.GetString(file, start, DigestCharacters))
        {
            throw new CheckpointRefusedException("damaged", "the checkpoint has no checksum");
        }

        if (!CryptographicOperations.FixedTimeEquals(Encoding.ASCII.GetBytes(Digest(file, start, algorithm)), file.AsSpan(start, DigestCharacters)))
        {
            throw _key is null
                ? new CheckpointRefusedException("damaged", "the checkpoint's content does not match its checksum")
                : new CheckpointRefusedException("forged", "the checkpoint's content does not match its keyed checksum: it was changed or damaged, or the key is another");
        }

        return Describe(content.Metadata, number, file.Length);
    }

    /// <summary>What a file says of itself, unchecked.</summary>
    /// <exception cref="CheckpointRefusedException">It lacks what every checkpoint says.</exception>
    public static CheckpointDescription Describe(IReadOnlyDictionary<string, string> metadata, long number, long bytes)
    {
        try
        {
            return new CheckpointDescription(
                metadata["stream"],
                number,
                long.Parse(metadata["epoch"], NumberStyles.None, CultureInfo.InvariantCulture),
                metadata["owner"],
                ulong.Parse(metadata["sequence"], NumberStyles.None, CultureInfo.InvariantCulture),
                long.Parse(metadata["step"], NumberStyles.None, CultureInfo.InvariantCulture),
                metadata["model"],
                metadata["method"],
                DateTimeOffset.ParseExact(metadata["saved"], "O", CultureInfo.InvariantCulture),
                bytes)
            {
                ModelName = metadata.GetValueOrDefault("model_name") ?? "",
            };
        }
        catch (Exception e) when (e is KeyNotFoundException or FormatException or OverflowException)
        {
            throw new CheckpointRefusedException("foreign", $"the checkpoint's metadata can't be read: {e.Message}");
        }
    }

    private static Safetensors Read(byte[] file)
    {
        try
        {
            return Safetensors.Read(file);
        }
        catch (SnapshotException e)
        {
            throw new CheckpointRefusedException("damaged", e.Message);
        }
    }

    // Where the digest's characters lie. Quotes inside JSON strings are escaped, so only the key itself matches; twice is nobody's honest work.
    private static int? DigestStart(ReadOnlySpan<byte> file, string algorithm)
    {
        var mark = Encoding.ASCII.GetBytes($"\"checksum\":\"{algorithm}");
        var header = file.Slice(8, (int)System.Buffers.Binary.BinaryPrimitives.ReadUInt64LittleEndian(file));
        var at = header.IndexOf(mark);
        return at < 0 || header[(at + 1)..].IndexOf(mark) >= 0 || at + mark.Length + DigestCharacters > header.Length
            ? null
            : 8 + at + mark.Length;
    }

    private string Digest(ReadOnlySpan<byte> file, int start, string algorithm)
    {
        using var hash = algorithm == Keyed
            ? IncrementalHash.CreateHMAC(HashAlgorithmName.SHA256, _key!)
            : IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        hash.AppendData(file[..start]);
        hash.AppendData(new byte[DigestCharacters]);
        hash.AppendData(file[(start + DigestCharacters)..]);
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
