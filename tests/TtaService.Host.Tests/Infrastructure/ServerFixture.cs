using Microsoft.Extensions.Time.Testing;

namespace TtaService.Host.Tests.Infrastructure;

/// <summary>One server with two models for a class of tests; its clock stands still.</summary>
public sealed class ServerFixture : IAsyncLifetime
{
    internal TestHost Host { get; private set; } = null!;

    public async ValueTask InitializeAsync() => Host = await TestHost.StartAsync(new FakeTimeProvider(), TestHost.TwoModels);

    public ValueTask DisposeAsync() => Host.DisposeAsync();
}
