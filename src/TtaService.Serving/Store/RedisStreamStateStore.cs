using System.Globalization;
using System.Text.Json;
using StackExchange.Redis;

namespace TtaService.Serving.Store;

/// <summary>Keeps states in Redis or a compatible server, for any number of replicas. A stream is one hash, and every operation on it one script: ownership and bytes change
/// together.</summary>
internal sealed class RedisStreamStateStore : IStreamStateStore
{
    private readonly StoreOptions _options;
    private readonly CheckpointSeal _seal;
    private readonly ConnectionMultiplexer _connection;
    private readonly string _prefix;
    private readonly RedisKey _index;
    private volatile bool _indexed;

    private RedisStreamStateStore(StoreOptions options, CheckpointSeal seal, ConnectionMultiplexer connection)
    {
        (_options, _seal, _connection) = (options, seal, connection);
        _prefix = options.RedisKeyPrefix + "stream:";
        _index = options.RedisKeyPrefix + "streams";
    }

    public bool OutlivesProcess => true;

    private IDatabase Database => _connection.GetDatabase();

    /// <summary>Connects. A server that is not there yet is tried again and again behind the returned store.</summary>
    public static async Task<RedisStreamStateStore> ConnectAsync(StoreOptions options, CheckpointSeal seal)
    {
        var configuration = ConfigurationOptions.Parse(options.RedisConfiguration!);
        configuration.AbortOnConnectFail = false;
        configuration.ConnectTimeout = configuration.AsyncTimeout = configuration.SyncTimeout = (int)options.RedisTimeout.TotalMilliseconds;
        configuration.ReconnectRetryPolicy = new LinearRetry((int)options.RetryDelay.TotalMilliseconds);
        configuration.KeepAlive = 5;
        // What can't be sent now fails now: who waits for the store decides what to do without it.
        configuration.BacklogPolicy = BacklogPolicy.FailFast;
        configuration.ClientName = "tta";
        return new RedisStreamStateStore(options, seal, await ConnectionMultiplexer.ConnectAsync(configuration).ConfigureAwait(false));
    }

    public async Task<StreamOpening> OpenAsync(string stream, string owner, OpenPolicy policy, CancellationToken cancellation)
    {
        var answer = await RunAsync(
            RedisScripts.Open,
            stream,
            [owner, policy == OpenPolicy.Reject ? 1 : 0, Milliseconds(_options.OwnerTimeout), _options.MaxTakeoversPerMinute, Milliseconds(_options.IdleExpiry)],
            cancellation).ConfigureAwait(false);
        var (opening, number, file) = Understood(stream, () => ReadOpening(stream, owner, answer));
        if (file is null)
        {
            return opening;
        }

        try
        {
            return opening with { Checkpoint = await Task.Run(() => _seal.Unseal(stream, number, file), cancellation).ConfigureAwait(false) };
        }
        catch (CheckpointRefusedException e)
        {
            await RejectAsync(opening.Claim!.Value, number, e.Message, cancellation).ConfigureAwait(false);
            return opening with { Refused = e.Message };
        }
    }

    public Task<CheckpointWrite> CheckpointAsync(StreamClaim claim, PendingCheckpoint checkpoint, CancellationToken cancellation) =>
        WriteAsync(claim, checkpoint, close: false, cancellation);

    public Task<CheckpointWrite> CloseAsync(StreamClaim claim, PendingCheckpoint? last, CancellationToken cancellation) => WriteAsync(claim, last, close: true, cancellation);

    public async Task<IReadOnlyList<FencedClaim>> RenewAsync(IReadOnlyCollection<StreamClaim> claims, CancellationToken cancellation)
    {
        var answers = await Task.WhenAll(claims.Select(async claim =>
        {
            try
            {
                var answer = await RunAsync(RedisScripts.Renew, claim.Stream, [claim.Epoch, claim.Owner, Milliseconds(_options.IdleExpiry)], cancellation).ConfigureAwait(false);
                return Understood(claim.Stream, () => (string?)answer[0] == "held" ? (FencedClaim?)null : new FencedClaim(claim, Long(answer[1]), Text(answer[2])));
            }
            catch (StoredStreamException)
            {
                // Nobody holds what can't be read; the next checkpoint of the stream says what is wrong.
                return null;
            }
        })).ConfigureAwait(false);
        return [.. answers.OfType<FencedClaim>()];
    }

    public async Task<IReadOnlyList<StoredStream>> ListAsync(string? after, int limit, CancellationToken cancellation)
    {
        await EnsureIndexAsync(cancellation).ConfigureAwait(false);
        var page = new List<StoredStream>();
        while (page.Count < limit)
        {
            var from = after is { Length: > 0 } name ? (RedisValue)name : RedisValue.Null;
            var wanted = limit - page.Count;
            var names = await Guarded(() => Database.SortedSetRangeByValueAsync(_index, from, exclude: Exclude.Start, take: wanted)).WaitAsync(cancellation).ConfigureAwait(false);
            page.AddRange((await Task.WhenAll(names.Select(found => SummarizeAsync(found!, cancellation))).ConfigureAwait(false)).OfType<StoredStream>());
            if (names.Length < wanted)
            {
                break;
            }

            after = names[^1];
        }

        return page;
    }

    public async Task<bool> DeleteAsync(string stream, CancellationToken cancellation) =>
        (string?)(await RunAsync(RedisScripts.Delete, stream, [], cancellation).ConfigureAwait(false))[0] == "deleted";

    public Task<IReadOnlyList<CheckpointDescription>> CheckpointsAsync(string stream, CancellationToken cancellation) => DescriptionsAsync(stream, cancellation);

    public async Task<StoredCheckpoint?> ReadAsync(string stream, long number, CancellationToken cancellation)
    {
        var file = (byte[]?)await Guarded(stream, () => Database.HashGetAsync(Key(stream), RedisScripts.FileField(number))).WaitAsync(cancellation).ConfigureAwait(false);
        return file is null ? null : await Task.Run(() => _seal.Unseal(stream, number, file), cancellation).ConfigureAwait(false);
    }

    public Task RejectAsync(StreamClaim claim, long number, string reason, CancellationToken cancellation) =>
        RunAsync(RedisScripts.Reject, claim.Stream, [claim.Epoch, claim.Owner, number, reason], cancellation);

    public async ValueTask DisposeAsync() => await _connection.DisposeAsync().ConfigureAwait(false);

    private static long Milliseconds(TimeSpan span) => (long)span.TotalMilliseconds;

    // Numbers past 2^53 would lose digits as Lua numbers, so scripts hand them back as text.
    private static long Long(RedisResult value) => long.Parse((string)value!, NumberStyles.None, CultureInfo.InvariantCulture);

    private static string? Text(RedisResult value) => (string?)value is { Length: > 0 } text ? text : null;

    private static async Task<T> Guarded<T>(Func<Task<T>> access)
    {
        try
        {
            return await access().ConfigureAwait(false);
        }
        catch (Exception e) when (e is RedisException or RedisTimeoutException or RedisCommandException or ObjectDisposedException)
        {
            throw new StoreUnavailableException($"redis (Store:RedisConfiguration) does not serve: {RedisErrors.Explain(e)}", e);
        }
    }

    // What the server says of one stream's hash: that it is none, or that it holds what no version of this program writes.
    private Task<T> Guarded<T>(string stream, Func<Task<T>> access) => Guarded(async () =>
    {
        try
        {
            return await access().ConfigureAwait(false);
        }
        catch (RedisServerException e) when (RedisErrors.IsOfTheRecord(e))
        {
            throw Unreadable(stream, e);
        }
    });

    private T Understood<T>(string stream, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is FormatException or OverflowException or InvalidCastException or IndexOutOfRangeException
            or NullReferenceException or ArgumentNullException or JsonException)
        {
            throw Unreadable(stream, e);
        }
    }

    private StoredStreamException Unreadable(string stream, Exception e) =>
        new(stream, $"what redis holds under the key '{Key(stream)}' is no stream's record ({(e is RedisServerException ? RedisErrors.Explain(e) : "a field can't be read")})");

    private static (StreamOpening Opening, long Number, byte[]? File) ReadOpening(string stream, string owner, RedisResult[] answer)
    {
        var previous = Text(answer[1]);
        var takeovers = (long)answer[2];
        if ((string?)answer[0] is not "owned")
        {
            var status = (string?)answer[0] == "held" ? OpenStatus.Held : OpenStatus.TakeoverLimited;
            return (new StreamOpening { Status = status, PreviousOwner = previous, Takeovers = takeovers, RetryAfter = TimeSpan.FromMilliseconds((long)answer[3]) }, 0, null);
        }

        var opening = new StreamOpening { Status = OpenStatus.Owned, Claim = new StreamClaim(stream, Long(answer[3]), owner), PreviousOwner = previous, Takeovers = takeovers };
        var number = Long(answer[4]);
        return number > 0 && Long(answer[5]) == number
            ? (opening with { Refused = Text(answer[6]) ?? "the latest checkpoint was refused before and set aside" }, number, null)
            : (opening, number, (byte[]?)answer[7]);
    }

    // Names in their order, so that a page of the list costs a page. A store of a version without it is scanned once.
    private async Task EnsureIndexAsync(CancellationToken cancellation)
    {
        var done = _options.RedisKeyPrefix + "streams:complete";
        if (_indexed || await Guarded(() => Database.KeyExistsAsync(done)).ConfigureAwait(false))
        {
            _indexed = true;
            return;
        }

        await Guarded(async () =>
        {
            foreach (var server in _connection.GetServers().Where(server => server is { IsConnected: true, IsReplica: false }))
            {
                await foreach (var key in server.KeysAsync(Database.Database, EscapedPrefix() + "*", pageSize: 1000).WithCancellation(cancellation).ConfigureAwait(false))
                {
                    await Database.SortedSetAddAsync(_index, ((string)key!)[_prefix.Length..], 0).ConfigureAwait(false);
                }
            }

            return await Database.StringSetAsync(done, "1").ConfigureAwait(false);
        }).ConfigureAwait(false);
        _indexed = true;
    }

    // Null for one that is gone, which leaves the index, and for one that can't be read.
    private async Task<StoredStream?> SummarizeAsync(string stream, CancellationToken cancellation)
    {
        try
        {
            var owner = Guarded(stream, () => Database.HashGetAsync(Key(stream), "owner"));
            var kept = await DescriptionsAsync(stream, cancellation).ConfigureAwait(false);
            if (kept.Count > 0)
            {
                return new StoredStream(kept[0], await owner.ConfigureAwait(false), kept.Sum(checkpoint => checkpoint.Bytes));
            }

            if ((await owner.ConfigureAwait(false)).IsNull)
            {
                await Guarded(() => Database.SortedSetRemoveAsync(_index, stream)).ConfigureAwait(false);
            }
        }
        catch (StoredStreamException)
        {
            // Its opening says what is wrong with it.
        }

        return null;
    }

    private async Task<CheckpointWrite> WriteAsync(StreamClaim claim, PendingCheckpoint? checkpoint, bool close, CancellationToken cancellation)
    {
        byte[] file = [];
        var description = "";
        if (checkpoint is not null)
        {
            file = await Task.Run(() => _seal.Seal(claim, checkpoint), cancellation).ConfigureAwait(false);
            description = JsonSerializer.Serialize(CheckpointSeal.Describe(Engine.Streams.Safetensors.Read(file).Metadata, 0, file.Length));
        }

        var answer = await RunAsync(
            RedisScripts.Write,
            claim.Stream,
            [claim.Epoch, claim.Owner, checkpoint?.Version ?? 0, _options.KeepCheckpoints, Milliseconds(_options.IdleExpiry), close ? 1 : 0, description, file],
            cancellation).ConfigureAwait(false);
        if (checkpoint is not null)
        {
            // In a command of its own: a cluster keeps it elsewhere. What is lost here, the next checkpoint adds.
            _ = Database.SortedSetAddAsync(_index, claim.Stream, 0, flags: CommandFlags.FireAndForget);
        }

        return Understood(claim.Stream, () => (string?)answer[0] switch
        {
            "saved" => new CheckpointWrite(WriteStatus.Saved, claim.Epoch, claim.Owner, checkpoint is null ? 0 : Long(answer[1]), (long)answer[2]),
            "fenced" => new CheckpointWrite(WriteStatus.Fenced, Long(answer[1]), Text(answer[2]), 0, 0),
            _ => new CheckpointWrite(WriteStatus.Lost, 0, null, 0, 0),
        });
    }

    private async Task<IReadOnlyList<CheckpointDescription>> DescriptionsAsync(string stream, CancellationToken cancellation)
    {
        var fields = (RedisResult[])(await RunAsync(RedisScripts.Describe, stream, [], cancellation).ConfigureAwait(false))!;
        var described = new List<CheckpointDescription>();
        for (var i = 0; i + 1 < fields.Length; i += 2)
        {
            var at = i;
            if (Understood(stream, () => JsonSerializer.Deserialize<CheckpointDescription>((string)fields[at + 1]!)) is { } checkpoint)
            {
                described.Add(checkpoint with { Number = Understood(stream, () => Long(fields[at])) });
            }
        }

        return [.. described.OrderByDescending(checkpoint => checkpoint.Number)];
    }

    private RedisKey Key(string stream) => _prefix + stream;

    private string EscapedPrefix()
    {
        var escaped = new System.Text.StringBuilder();
        foreach (var character in _prefix)
        {
            escaped.Append(character is '*' or '?' or '[' or ']' or '\\' ? $"\\{character}" : character);
        }

        return escaped.ToString();
    }

    private Task<RedisResult[]> RunAsync(string script, string stream, RedisValue[] values, CancellationToken cancellation) =>
        Guarded(stream, async () => (RedisResult[])(await Database.ScriptEvaluateAsync(script, [Key(stream)], values).WaitAsync(cancellation).ConfigureAwait(false))!);
}
