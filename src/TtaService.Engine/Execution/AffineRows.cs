using TorchSharp;
using TtaService.Engine.Normalization;
using TtaService.Engine.Streams;
using TtaService.Engine.Tensors;
using static TorchSharp.torch;
using Tensor = TorchSharp.torch.Tensor;

namespace TtaService.Engine.Execution;

/// <summary>The scales and biases of S steps' streams during a pass: a tensor [S,2C] at each site that the method adapts, of which gradients can be asked.</summary>
internal sealed class AffineRows : IDisposable
{
    private readonly NormalizationSite[] _sites;
    private readonly Tensor?[] _rows;
    private readonly int _steps;

    /// <param name="runtime">The steps' method.</param>
    /// <param name="sites">The model's sites.</param>
    /// <param name="state">The steps' rows, [S,floats].</param>
    /// <param name="trains">Whether gradients will be asked for.</param>
    public AffineRows(MethodRuntime runtime, IReadOnlyList<NormalizationSite> sites, Tensor state, bool trains)
    {
        _sites = [.. sites.Where(runtime.Adapts)];
        _rows = new Tensor?[sites.Count];
        _steps = (int)state.shape[0];
        Trains = trains;
        foreach (var site in _sites)
        {
            var own = state.narrow(1, runtime.Layout.At(site).Offset, 2L * site.Channels).clone();
            _rows[site.Index] = trains ? own.requires_grad_(true) : own;
        }
    }

    /// <summary>Whether gradients will be asked for.</summary>
    public bool Trains { get; }

    /// <summary>What the frames of the steps are scaled by and shifted to at a site, [S,1,C] each; null where the method does not adapt.</summary>
    public (Tensor Scale, Tensor Bias)? At(NormalizationSite site) => _rows[site.Index] is { } rows
        ? (rows.narrow(1, 0, site.Channels).unsqueeze(1), rows.narrow(1, site.Channels, site.Channels).unsqueeze(1))
        : null;

    /// <summary>The gradients of every step, [S][floats]: of one site behind another its scale's and its bias's; 0 where the loss does not depend on a site.</summary>
    public float[][] Gradients()
    {
        using var scope = NewDisposeScope();
        Tensor[] gradients = [.. _sites.Select(site => _rows[site.Index]!.grad ?? zeros_like(_rows[site.Index]!))];
        if (gradients.Length == 0)
        {
            return [.. Enumerable.Range(0, _steps).Select(_ => Array.Empty<float>())];
        }

        var values = cat(gradients, 1).ToHost<float>();
        var floats = values.Length / _steps;
        return [.. Enumerable.Range(0, _steps).Select(step => values.AsSpan(step * floats, floats).ToArray())];
    }

    public void Dispose()
    {
        foreach (var rows in _rows)
        {
            rows?.Dispose();
        }
    }
}
