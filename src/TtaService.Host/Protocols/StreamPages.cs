using System.Buffers.Text;
using System.Text;
using TtaService.Host.Grpc;
using TtaService.Serving.Front;
using TtaService.Serving.Streams;
using TtaService.V1;

namespace TtaService.Host.Protocols;

/// <summary>The list of streams by pages, as every protocol gives it.</summary>
internal static class StreamPages
{
    private const int DefaultPageSize = 100;
    private const int MaxPageSize = 1000;
    private const int MaxTokenLength = 256;

    /// <exception cref="FailureException">The size or the token can't be taken.</exception>
    public static async Task<ListStreamsResponse> ReadAsync(IStreamOperations streams, ListStreamsRequest request)
    {
        if (request.PageSize is < 0 or > MaxPageSize)
        {
            throw new FailureException(Failure.Invalid(
                "PAGE_SIZE_OUT_OF_RANGE",
                "page_size",
                $"page_size is 0 (meaning {DefaultPageSize}) to {MaxPageSize}, not {request.PageSize}"));
        }

        var size = request.PageSize == 0 ? DefaultPageSize : request.PageSize;
        var page = (await streams.ListAsync(request.Model, ReadToken(request.PageToken), size).ConfigureAwait(false)).OrThrow();
        var response = new ListStreamsResponse();
        response.Streams.AddRange(page.Streams.Select(Replies.ToWire));
        if (page.Warning is { } warning)
        {
            response.Warnings.Add(warning);
        }

        if (page.More)
        {
            response.NextPageToken = Base64Url.EncodeToString(Encoding.ASCII.GetBytes(page.Streams[^1].Name));
        }

        return response;
    }

    private static string ReadToken(string token)
    {
        if (token.Length == 0)
        {
            return string.Empty;
        }

        return token.Length <= MaxTokenLength && Base64Url.IsValid(token, out _)
            ? Encoding.ASCII.GetString(Base64Url.DecodeFromChars(token))
            : throw new FailureException(Failure.Invalid(
                "PAGE_TOKEN_INVALID",
                "page_token",
                "page_token is not one that ListStreams gave; leave it out to start from the first page"));
    }
}
