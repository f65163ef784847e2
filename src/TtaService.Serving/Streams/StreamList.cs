using TtaService.Serving.Store;
using TtaService.Serving.Streams.Keeping;

namespace TtaService.Serving.Streams;

/// <summary>A stream of the list: at hand here, or known from the store only.</summary>
/// <param name="Name">The stream's name.</param>
/// <param name="Session">The stream here; null when another replica has it, or it waits in the store.</param>
/// <param name="Stored">What the store says; null when it was not asked.</param>
/// <param name="Model">The model's name; empty when it is not served here.</param>
internal sealed record ListedStream(string Name, StreamSession? Session, StoredStream? Stored, string Model);

/// <summary>A page of the list.</summary>
/// <param name="Streams">In the order of their names.</param>
/// <param name="More">Whether further streams follow.</param>
/// <param name="Warning">Why streams may be missing; null when none are.</param>
internal sealed record StreamPage(IReadOnlyList<ListedStream> Streams, bool More, string? Warning);

/// <summary>Lists the streams of this process together with those in the store.</summary>
internal sealed class StreamList(StreamDirectory directory, StoredStreams stored, ModelCatalog models)
{
    /// <summary>Up to <paramref name="count"/> streams in the order of their names, from the first name after <paramref name="after"/>.</summary>
    /// <param name="model">Only streams of this model; empty for all.</param>
    /// <param name="after">The last name of the page before; empty for the first page.</param>
    /// <param name="count">At least 1.</param>
    public async Task<StreamPage> ReadAsync(string model, string after, int count)
    {
        var found = new SortedDictionary<string, ListedStream>(StringComparer.Ordinal);
        var warning = await AddStoredAsync(found, model, after, count + 1).ConfigureAwait(false);
        foreach (var session in directory.Loaded)
        {
            if (string.CompareOrdinal(session.Name, after) > 0 && (model.Length == 0 || session.Model.Name == model))
            {
                found[session.Name] = new ListedStream(session.Name, session, null, session.Model.Name);
            }
        }

        return new StreamPage([.. found.Values.Take(count)], found.Count > count, warning);
    }

    private async Task<string?> AddStoredAsync(SortedDictionary<string, ListedStream> found, string model, string after, int count)
    {
        try
        {
            while (found.Count < count)
            {
                var page = await stored.ListAsync(after, count).ConfigureAwait(false);
                foreach (var listed in page)
                {
                    var name = models.Of(listed.Latest, model).Model?.Name ?? string.Empty;
                    if (model.Length == 0 || name == model)
                    {
                        found[listed.Latest.Stream] = new ListedStream(listed.Latest.Stream, null, listed, name);
                    }
                }

                if (page.Count < count)
                {
                    break;
                }

                // Those of other models leave gaps.
                after = page[^1].Latest.Stream;
            }

            return null;
        }
        catch (StoreUnavailableException trouble)
        {
            return $"streams that are not in this server's memory are missing, the state store is out of reach: {trouble.Message}";
        }
    }
}
