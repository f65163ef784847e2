using TtaService.Serving.Streams;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>Streams by their names alone.</summary>
internal static class StreamLookups
{
    public static StreamSession Get(this StreamDirectory directory, string name) => directory.Get(StreamKey.Of(name));

    public static bool Contains(this StreamDirectory directory, string name) => directory.Contains(StreamKey.Of(name));

    public static Task DeleteAsync(this StreamDepartures departures, string name) => departures.DeleteAsync(StreamKey.Of(name));
}
