using System.IO.Compression;
using System.Text.Json;

namespace TtaService.Serving.Streams;

/// <summary>What belongs to a stream beside its state, as the store keeps it: settings, ages, and the answers that a client may ask for again.</summary>
internal sealed record StreamRecord(StreamSettings Settings, DateTimeOffset Created, DateTimeOffset ResetAt, IReadOnlyList<KeptAnswer> Answers)
{
    private const int MaxBytes = 64 << 20;

    /// <summary>As text for the metadata of a file.</summary>
    public string Write()
    {
        using var compressed = new MemoryStream();
        using (var brotli = new BrotliStream(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            JsonSerializer.Serialize(brotli, this);
        }

        return Convert.ToBase64String(compressed.GetBuffer(), 0, (int)compressed.Length);
    }

    /// <summary>Null when the text is none of these: the state goes on without.</summary>
    public static StreamRecord? Read(string text)
    {
        if (text.Length == 0)
        {
            return null;
        }

        try
        {
            using var brotli = new BrotliStream(new MemoryStream(Convert.FromBase64String(text)), CompressionMode.Decompress);
            using var json = new MemoryStream();
            var buffer = new byte[64 * 1024];
            int read;
            while ((read = brotli.Read(buffer)) > 0)
            {
                json.Write(buffer, 0, read);
                if (json.Length > MaxBytes)
                {
                    return null;
                }
            }

            return JsonSerializer.Deserialize<StreamRecord>(json.GetBuffer().AsSpan(0, (int)json.Length));
        }
        catch (Exception unreadable) when (unreadable is FormatException or JsonException or InvalidDataException or InvalidOperationException)
        {
            return null;
        }
    }
}

/// <summary>An answer and the number of the step that it answers.</summary>
internal sealed record KeptAnswer(ulong Sequence, StepAnswer Answer);
