using StackExchange.Redis;

namespace TtaService.Serving.Store;

/// <summary>What an error of Redis is about, and how it is told to people who know nothing of scripts.</summary>
internal static class RedisErrors
{
    private const int MaxCharacters = 160;

    // Errors of the server whatever the key, also when a script meets them.
    private static readonly string[] OfTheServer =
    [
        "OOM ", "READONLY ", "LOADING ", "BUSY ", "MISCONF ", "MASTERDOWN ", "CLUSTERDOWN ", "NOAUTH ", "NOPERM ", "NOREPLICAS ", "NOSCRIPT ", "TRYAGAIN ",
        "MOVED ", "ASK ", "command not allowed", "read only replica", "max number of clients",
    ];

    // The wrong type, or what Lua says of fields that are no numbers.
    private static readonly string[] OfARecord = ["WRONGTYPE ", "user_script", "ERR value is not", "ERR hash value is not", "attempt to "];

    /// <summary>Whether the error is about what lies under the key, not about the server.</summary>
    public static bool IsOfTheRecord(RedisServerException error) =>
        !Array.Exists(OfTheServer, word => error.Message.Contains(word, StringComparison.Ordinal))
            && Array.Exists(OfARecord, word => error.Message.Contains(word, StringComparison.Ordinal));

    /// <summary>The first line, without what the client library or a script says of itself.</summary>
    public static string Explain(Exception error)
    {
        if (error is RedisServerException server && IsOfTheRecord(server))
        {
            return error.Message.Contains("WRONGTYPE", StringComparison.Ordinal) ? "it is not a hash" : "a field is not a number";
        }

        var text = error.Message.Split('\n')[0];
        foreach (var inner in new[] { " script: ", "Error running script", "@user_script" })
        {
            text = text.IndexOf(inner, StringComparison.Ordinal) is var at and > 0 ? text[..at] : text;
        }

        text = text.TrimEnd(' ', '.', ',');
        return text.Length <= MaxCharacters ? text : text[..MaxCharacters] + "…";
    }
}
