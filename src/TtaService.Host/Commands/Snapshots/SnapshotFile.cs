using TtaService.Engine.Execution;
using TtaService.Engine.Streams;
using TtaService.Serving.Store;

namespace TtaService.Host.Commands.Snapshots;

/// <summary>A snapshot on disk: an export (<c>tta.stream.v1</c>), or a checkpoint of the file store, which is one with a checksum.</summary>
/// <param name="Path">Where it lies.</param>
/// <param name="Bytes">As they lie there.</param>
/// <param name="Content">Its table.</param>
internal sealed record SnapshotFile(string Path, byte[] Bytes, Safetensors Content)
{
    private const string EncodingKey = "encoding";

    // What a checkpoint adds to a snapshot.
    private static readonly string[] CheckpointKeys = ["checkpoint", "stream", "epoch", "owner", "sequence", "record", "saved", "checksum"];

    public bool IsCheckpoint => Content.Metadata.ContainsKey("checkpoint");

    public string Encoding => Content.Metadata.GetValueOrDefault(EncodingKey) ?? "lossless";

    /// <exception cref="CommandException">Not there, or no snapshot.</exception>
    public static SnapshotFile Read(string path)
    {
        try
        {
            var bytes = File.ReadAllBytes(path);
            var content = Safetensors.Read(bytes);
            return content.Metadata.ContainsKey("format")
                ? new SnapshotFile(path, bytes, content)
                : throw CommandException.WrongUse($"{path} is safetensors, but no stream snapshot: its metadata lacks 'format'");
        }
        catch (SnapshotException refused)
        {
            throw CommandException.WrongUse($"{path} is no snapshot: {refused.Message}");
        }
        catch (Exception unreadable) when (unreadable is IOException or UnauthorizedAccessException)
        {
            throw CommandException.WrongUse($"{path} can't be read: {unreadable.Message}");
        }
    }

    /// <summary>The plain snapshot, float32, without a checkpoint's additions: what ImportStream and <c>tta evaluate --state</c> take.</summary>
    /// <param name="model">Needed when the file holds differences from its statistics.</param>
    /// <exception cref="CommandException">Not decodable.</exception>
    public byte[] Decode(AdaptiveModel? model)
    {
        if (Content.Metadata.ContainsKey(EncodingKey) && model is null)
        {
            throw CommandException.WrongUse($"{Path} is encoded as {Encoding}, differences from its model's statistics; name the model with --model");
        }

        try
        {
            var decoded = Codec(SnapshotEncoding.Lossless, model).Decode(Bytes);
            var metadata = Safetensors.Read(decoded).Metadata.Where(pair => !CheckpointKeys.Contains(pair.Key)).ToDictionary();
            return Safetensors.WithMetadata(decoded, metadata);
        }
        catch (SnapshotException refused)
        {
            throw CommandException.WrongUse($"{Path} can't be decoded: {refused.Message}");
        }
    }

    /// <summary>What is wrong with it; null when nothing.</summary>
    /// <param name="model">Checked against it when given: digest, method, every tensor's shape and values.</param>
    /// <param name="key">The key of a checkpoint's checksum; null when it has a plain one.</param>
    public string? Verify(AdaptiveModel? model, byte[]? key)
    {
        try
        {
            if (IsCheckpoint)
            {
                new CheckpointSeal(Codec(SnapshotEncoding.Lossless, model), key, TimeProvider.System).Verify(Bytes, 0);
            }

            if (model is not null)
            {
                model.Release(model.Import(Decode(model)));
            }

            return null;
        }
        catch (Exception refused) when (refused is CheckpointRefusedException or SnapshotException or CommandException)
        {
            return refused.Message;
        }
    }

    public static SnapshotCodec Codec(SnapshotEncoding encoding, AdaptiveModel? model) => new(encoding, digest => model?.Digest == digest ? model.Sites : null);
}
