using static TorchSharp.torch;

namespace TtaService.Engine.Streams;

/// <summary>The arenas of a model: rows of one size share one, whatever settings their streams have.</summary>
/// <param name="device">Where rows lie; null for the host's memory.</param>
internal sealed class ArenaPool(Device? device)
{
    private readonly Dictionary<int, (StateArena Arena, int Users)> _arenas = [];
    private readonly SpareRows _spares = new();

    /// <summary>Bytes that all arenas hold, free rows included.</summary>
    public long Bytes => _arenas.Values.Sum(entry => entry.Arena.Bytes);

    /// <summary>The arena of this row size; given back by <see cref="Return"/>.</summary>
    public StateArena Rent(int rowFloats)
    {
        var (arena, users) = _arenas.TryGetValue(rowFloats, out var entry) ? entry : (device is null ? new HostArena(rowFloats, _spares) : new DeviceArena(rowFloats, device), 0);
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
}
