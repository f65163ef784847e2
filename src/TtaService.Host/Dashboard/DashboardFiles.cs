using System.Security.Cryptography;
using Microsoft.AspNetCore.Http.Headers;
using Microsoft.Extensions.Primitives;
using Microsoft.Net.Http.Headers;

namespace TtaService.Host.Dashboard;

/// <summary>The page's own files, carried in the assembly: it works offline, and nothing is loaded from elsewhere.</summary>
internal static class DashboardFiles
{
    private const string Prefix = "Dashboard/web/";

    private static readonly Dictionary<string, string> ContentTypes = new(StringComparer.Ordinal)
    {
        [".html"] = "text/html; charset=utf-8",
        [".css"] = "text/css; charset=utf-8",
        [".js"] = "text/javascript; charset=utf-8",
        [".svg"] = "image/svg+xml",
    };

    public static void Map(IEndpointRouteBuilder endpoints)
    {
        var assembly = typeof(DashboardFiles).Assembly;
        foreach (var resource in assembly.GetManifestResourceNames().Where(name => name.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            using var stream = assembly.GetManifestResourceStream(resource)!;
            using var content = new MemoryStream();
            stream.CopyTo(content);
            var file = new PageFile(content.ToArray(), ContentTypes[Path.GetExtension(resource)]);
            var name = resource[Prefix.Length..];
            endpoints.MapGet(name == "index.html" ? "/" : $"/{name}", file.SendAsync).ExcludeFromDescription();
        }
    }

    private sealed class PageFile
    {
        private readonly byte[] _content;
        private readonly string _type;
        private readonly EntityTagHeaderValue _tag;

        public PageFile(byte[] content, string type)
        {
            (_content, _type) = (content, type);
            _tag = new EntityTagHeaderValue(new StringSegment($"\"{Convert.ToHexStringLower(SHA256.HashData(content))[..16]}\""));
        }

        public IResult SendAsync(HttpContext context)
        {
            // Asked for again after every update of the server, and answered with 304 else.
            context.Response.GetTypedHeaders().CacheControl = new CacheControlHeaderValue { NoCache = true };
            return Results.Bytes(_content, _type, entityTag: _tag);
        }
    }
}
