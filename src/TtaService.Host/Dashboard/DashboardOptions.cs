namespace TtaService.Host.Dashboard;

/// <summary>Who may change streams from the page.</summary>
public enum DashboardActions
{
    /// <summary>Who opens it on the server's own machine.</summary>
    Loopback,

    /// <summary>Everybody who reaches the port under a name that it answers to.</summary>
    Always,

    /// <summary>Nobody.</summary>
    Never,
}

/// <summary>The page on the HTTP port, section <c>Dashboard</c>.</summary>
public sealed class DashboardOptions
{
    /// <summary>Whether there is a page. Default true.</summary>
    public bool Enabled { get; set; } = true;

    /// <summary>loopback, always or never: who may reset, freeze, fork and export streams from the page. Default loopback.</summary>
    public DashboardActions AllowActions { get; set; } = DashboardActions.Loopback;
}
