using System.Globalization;

namespace TtaService.Serving.Store;

/// <summary>The scripts that run in Redis, each on the hash of one stream.</summary>
/// <remarks>
/// Fields: <c>epoch</c>, <c>owner</c> (missing when nobody has it), <c>seen</c> (milliseconds), <c>takeovers</c>, <c>window</c> and <c>count</c> (take-overs of the running
/// minute),
/// <c>number</c> of the last checkpoint, <c>version</c> of it within its claim, <c>f:N</c> its file, <c>d:N</c> its description, <c>refused</c> and <c>reason</c> with <c>r:N</c>
/// for one that was set aside.
/// An epoch is the time of the opening in microseconds, or one more than the last: after the server lost its content, no old claim fits a new opening.
/// </remarks>
internal static class RedisScripts
{
    /// <summary>ARGV: owner, 1 to reject, owner timeout in ms, take-overs per minute, expiry in ms. Returns owned: previous owner, take-overs, epoch, number, refused number,
    /// reason, file; or held, limited: owner, take-overs, ms to wait.</summary>
    public const string Open = """
        local key = KEYS[1]
        local t = redis.call('TIME')
        local now = t[1] * 1000 + math.floor(t[2] / 1000)
        local h = redis.call('HMGET', key, 'epoch', 'owner', 'seen', 'takeovers', 'window', 'count', 'number', 'refused', 'reason')
        local owner, takeovers = h[2], tonumber(h[4] or '0')
        if owner and owner ~= ARGV[1] then
          local silent = math.max(0, now - tonumber(h[3]))
          if ARGV[2] == '1' and silent < tonumber(ARGV[3]) then
            return {'held', owner, takeovers, tonumber(ARGV[3]) - silent}
          end
          local window, count = tonumber(h[5] or '0'), tonumber(h[6] or '0')
          if count == 0 or now - window >= 60000 or now < window then window, count = now, 0 end
          if count >= tonumber(ARGV[4]) then
            return {'limited', owner, takeovers, 60000 - (now - window)}
          end
          takeovers = takeovers + 1
          redis.call('HSET', key, 'takeovers', takeovers, 'window', string.format('%.0f', window), 'count', count + 1)
        end
        local epoch = string.format('%.0f', math.max(tonumber(h[1] or '0') + 1, t[1] * 1000000 + t[2]))
        redis.call('HSET', key, 'epoch', epoch, 'owner', ARGV[1], 'seen', string.format('%.0f', now))
        redis.call('HDEL', key, 'version')
        redis.call('PEXPIRE', key, ARGV[5])
        local number = h[7] or '0'
        local file = redis.call('HGET', key, 'f:' .. number)
        return {'owned', owner or '', takeovers, epoch, number, h[8] or '0', h[9] or '', file or false}
        """;

    /// <summary>ARGV: epoch, owner, version, checkpoints to keep, expiry in ms, 1 to close, description, file (empty for none). Returns saved: number, bytes; fenced: epoch, owner;
    /// or lost.</summary>
    public const string Write = """
        local key = KEYS[1]
        local h = redis.call('HMGET', key, 'epoch', 'owner', 'version', 'number', 'refused')
        if not h[1] then return {'lost'} end
        if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return {'fenced', h[1], h[2] or ''} end
        local number, bytes = h[4] or '0', 0
        if #ARGV[8] > 0 and (not h[3] or tonumber(ARGV[3]) > tonumber(h[3])) then
          number = string.format('%.0f', tonumber(number) + 1)
          bytes = #ARGV[8]
          redis.call('HSET', key, 'number', number, 'version', ARGV[3], 'f:' .. number, ARGV[8], 'd:' .. number, ARGV[7])
          if h[5] then redis.call('HDEL', key, 'refused', 'reason', 'r:' .. h[5]) end
          for _, field in ipairs(redis.call('HKEYS', key)) do
            local old = string.match(field, '^f:(%d+)$')
            if old and tonumber(old) <= tonumber(number) - tonumber(ARGV[4]) then
              redis.call('HDEL', key, 'f:' .. old, 'd:' .. old)
            end
          end
        end
        local t = redis.call('TIME')
        redis.call('HSET', key, 'seen', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
        if ARGV[6] == '1' then redis.call('HDEL', key, 'owner') end
        if ARGV[6] == '1' and number == '0' then redis.call('DEL', key) else redis.call('PEXPIRE', key, ARGV[5]) end
        return {'saved', number, bytes}
        """;

    /// <summary>ARGV: epoch, owner, expiry in ms. Returns held; or fenced: epoch (0 when nothing is known), owner.</summary>
    public const string Renew = """
        local h = redis.call('HMGET', KEYS[1], 'epoch', 'owner')
        if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return {'fenced', h[1] or '0', h[2] or ''} end
        local t = redis.call('TIME')
        redis.call('HSET', KEYS[1], 'seen', string.format('%.0f', t[1] * 1000 + math.floor(t[2] / 1000)))
        redis.call('PEXPIRE', KEYS[1], ARGV[3])
        return {'held'}
        """;

    /// <summary>Returns deleted or none. For a minute the epoch stays, so that the owner hears that it is fenced, not that the server forgot the stream. What is no hash goes,
    /// too.</summary>
    public const string Delete = """
        local type = redis.call('TYPE', KEYS[1])['ok']
        if type ~= 'hash' and type ~= 'none' then
          redis.call('DEL', KEYS[1])
          return {'deleted'}
        end
        local h = redis.call('HMGET', KEYS[1], 'epoch', 'number')
        redis.call('DEL', KEYS[1])
        if h[1] and tonumber(h[1]) then
          redis.call('HSET', KEYS[1], 'epoch', h[1])
          redis.call('PEXPIRE', KEYS[1], 60000)
        end
        return {h[2] and 'deleted' or 'none'}
        """;

    /// <summary>ARGV: epoch, owner, number, reason. The file stays for who looks into it, where no opening finds it.</summary>
    public const string Reject = """
        local key = KEYS[1]
        local h = redis.call('HMGET', key, 'epoch', 'owner')
        if h[1] ~= ARGV[1] or h[2] ~= ARGV[2] then return {'fenced'} end
        local file = redis.call('HGET', key, 'f:' .. ARGV[3])
        if file then
          redis.call('HSET', key, 'refused', ARGV[3], 'reason', ARGV[4], 'r:' .. ARGV[3], file)
          redis.call('HDEL', key, 'f:' .. ARGV[3], 'd:' .. ARGV[3])
        end
        return {'rejected'}
        """;

    /// <summary>Returns number, description, number, description, …</summary>
    public const string Describe = """
        local found = {}
        for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
          local number = string.match(field, '^d:(%d+)$')
          if number then
            found[#found + 1] = number
            found[#found + 1] = redis.call('HGET', KEYS[1], field)
          end
        end
        return found
        """;

    public static string FileField(long number) => string.Create(CultureInfo.InvariantCulture, $"f:{number}");
}
