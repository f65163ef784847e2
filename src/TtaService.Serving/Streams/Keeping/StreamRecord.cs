using System.IO.Compression;
using System.Text.Json;
using TtaService.Serving.Store;

namespace TtaService.Serving.Streams.Keeping;

/// <summary>What belongs to a stream beside its state, as the store keeps it: settings, ages, and the answers that a client may ask for again.</summary>
internal sealed record StreamRecord(StreamSettings Settings, DateTimeOffset Created, DateTimeOffset ResetAt, IReadOnlyList<KeptAnswer> Answers)
{
    private const int MaxBytes = 64 << 20;

    /// <summary>Bytes of answers that are stored with a state at most, the newest; as text they take several times as many.</summary>
    public const long MaxAnswerBytes = 2 << 20;

    /// <summary>As text for the metadata of a file. Old answers are left out until it can be read back.</summary>
    public string Write()
    {
        var answers = NewestAnswers();
        while (true)
        {
            var text = Write(this with { Answers = answers });
            if (text is not null || answers.Length == 0)
            {
                return text ?? "";
            }

            answers = answers[((answers.Length + 1) / 2)..];
        }
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

    // Null when it could not be read back.
    private static string? Write(StreamRecord record)
    {
        using var json = new MemoryStream();
        JsonSerializer.Serialize(json, record);
        using var compressed = new MemoryStream();
        using (var brotli = new BrotliStream(compressed, CompressionLevel.Fastest, leaveOpen: true))
        {
            brotli.Write(json.GetBuffer(), 0, (int)json.Length);
        }

        return json.Length <= MaxBytes && (compressed.Length + 2) / 3 * 4 <= CheckpointSeal.MaxRecordCharacters
            ? Convert.ToBase64String(compressed.GetBuffer(), 0, (int)compressed.Length)
            : null;
    }

    // Without a gap: a memory of answers must be unbroken up to the last.
    private KeptAnswer[] NewestAnswers()
    {
        var bytes = 0L;
        var from = Answers.Count;
        while (from > 0 && (bytes += Answers[from - 1].Answer.Bytes) <= MaxAnswerBytes)
        {
            from--;
        }

        return [.. Answers.Skip(from)];
    }
}

/// <summary>An answer and the number of the step that it answers.</summary>
/// <param name="Sequence">The step's number.</param>
/// <param name="Answer">Its answer.</param>
/// <param name="Digest">Of the frames that it answers; 0 when it is not known.</param>
internal sealed record KeptAnswer(ulong Sequence, StepAnswer Answer, ulong Digest = 0);
