using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>The arenas of a model: rows of one size share one, whatever settings their streams have.</summary>
/// <param name="device">Where rows lie; null for the host's memory.</param>
/// <param name="limit">Bytes that the arenas hold at most between passes, free rows included. The rows that a pass proposes come on top until it ends, and a device's
/// arena has its old tensor beside the new one while it is moved.</param>
internal sealed class ArenaPool(Device? device, long limit = long.MaxValue)
{
    // The rows that a batch proposes change hands with every pass; past this they go back to the heap.
    private const long MostSpareBytes = 32 << 20;

    private readonly Dictionary<int, (StateArena Arena, int Users)> _arenas = [];
    private long _spareBytes;

    /// <summary>Bytes that all arenas hold, free rows included.</summary>
    public long Bytes { get; private set; }

    /// <summary>Bytes that may still be held.</summary>
    public long Room => limit - Bytes;

    /// <summary>The arena of this row size; given back by <see cref="Return"/>.</summary>
    public StateArena Rent(int rowFloats)
    {
        var (arena, users) = _arenas.TryGetValue(rowFloats, out var entry)
            ? entry
            : (device is null ? new HostArena(rowFloats, this) : new DeviceArena(rowFloats, device, this), 0);
        _arenas[rowFloats] = (arena, users + 1);
        return arena;
    }

    /// <summary>Frees an arena that nobody uses any more.</summary>
    public void Return(StateArena arena)
    {
        var users = _arenas[arena.RowFloats].Users - 1;
        _arenas[arena.RowFloats] = (arena, users);
        if (users == 0)
        {
            _arenas.Remove(arena.RowFloats);
            arena.Dispose();
        }
    }

    /// <summary>Gives the memory of free rows back; a device's arena is handed to <paramref name="compact"/>, since the rows between them move.</summary>
    public void Trim(Action<DeviceArena> compact)
    {
        foreach (var (arena, _) in _arenas.Values)
        {
            switch (arena)
            {
                case HostArena host:
                    host.DropSpares();
                    break;
                case DeviceArena { FreeRows: > 0 } gapped:
                    compact(gapped);
                    break;
            }
        }
    }

    /// <summary>An arena took memory, or gave it back.</summary>
    public void Held(long bytes) => Bytes += bytes;

    /// <summary>Whether a free row of the host may stay for the next pass.</summary>
    public bool TryKeep(long bytes)
    {
        var fits = Room >= 0 && _spareBytes + bytes <= MostSpareBytes;
        _spareBytes += fits ? bytes : 0;
        return fits;
    }

    /// <summary>A row that was kept is used again, or gone.</summary>
    public void Drop(long bytes) => _spareBytes -= bytes;
}
