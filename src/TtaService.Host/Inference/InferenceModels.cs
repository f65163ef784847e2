using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Inference;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The models behind the Open Inference Protocol, by name, and how their requests run.</summary>
internal sealed class InferenceModels
{
    /// <summary>Models have one version.</summary>
    public const string Version = "1";

    private readonly ModelCatalog _catalog;
    private readonly Func<ServedModel, IInferenceModel> _network;
    private readonly TimeProvider _clock;
    private readonly Dictionary<string, IInferenceModel> _builtIn;
    private readonly ConcurrentDictionary<string, InferenceStatistics> _statistics = new(StringComparer.Ordinal);

    public InferenceModels(ModelCatalog catalog, NetworkModels networks, IOptions<InferenceOptions> options, TimeProvider clock)
    {
        (_catalog, _network, _clock) = (catalog, networks.Of, clock);
        _builtIn = (options.Value.ConformanceModels ? Conformance.ConformanceModels.All() : []).ToDictionary(model => model.Description.Name, StringComparer.Ordinal);
    }

    /// <summary>The model takes requests.</summary>
    public bool IsReady(string name, string version) => IsVersion(version) && TryFind(name) is not null;

    /// <exception cref="FailureException">There is no such model, or it can't be served.</exception>
    public IInferenceModel Find(string name, string version)
    {
        if (version.Length > 0 && (!ulong.TryParse(version, out var number) || number == 0))
        {
            throw new FailureException(Failure.Invalid("VERSION_INVALID", "model_version", $"model version '{Engine.ForeignText.Clip(version)}' should be an integer > 0"));
        }

        if (_catalog.Broken.FirstOrDefault(broken => broken.Name == name) is { } known)
        {
            throw new FailureException(InferenceErrors.NotReady(name, known.Reason));
        }

        return IsVersion(version) && TryFind(name) is { } model ? model : throw new FailureException(InferenceErrors.UnknownModel(name, version));
    }

    /// <summary>All models, with why they do not take requests; empty when they do.</summary>
    public IEnumerable<(string Name, string Reason)> Index() =>
        _catalog.All.Select(model => (model.Name, string.Empty)).Concat(_catalog.Broken.Select(broken => (broken.Name, broken.Reason))).Concat(_builtIn.Keys.Select(name => (name, string.Empty)));

    /// <summary>Of one model, or of all for an empty name.</summary>
    public IEnumerable<ModelStatistics> Statistics(string name, string version) => name.Length > 0
        ? [Of(Find(name, version).Description.Name).Read(name)]
        : Index().Where(model => model.Reason.Length == 0).Select(model => Of(model.Name).Read(model.Name));

    /// <summary>The only response.</summary>
    /// <exception cref="FailureException">There is none, or the model may have several.</exception>
    public async Task<InferenceResponse> InferOnceAsync(InferenceRequest request, CancellationToken cancel)
    {
        var model = Find(request.Model, request.Version);
        if (model.Description.IsDecoupled)
        {
            throw new FailureException(new Failure(FailureKind.FailedPrecondition, "MODEL_DECOUPLED", $"ModelInfer RPC doesn't support models with decoupled transaction policy: send requests of model '{request.Model}' on ModelStreamInfer"));
        }

        await foreach (var response in RunAsync(model, request, cancel).ConfigureAwait(false))
        {
            return response;
        }

        throw new UnreachableException();
    }

    /// <summary>All responses, and their times counted.</summary>
    /// <exception cref="FailureException">The request does not fit, or could not be answered.</exception>
    public IAsyncEnumerable<InferenceResponse> InferAsync(InferenceRequest request, CancellationToken cancel) => RunAsync(Find(request.Model, request.Version), request, cancel);

    private static bool IsVersion(string version) => version is "" or Version;

    private async IAsyncEnumerable<InferenceResponse> RunAsync(IInferenceModel model, InferenceRequest request, [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        var began = _clock.GetTimestamp();
        var succeeded = false;
        try
        {
            await foreach (var response in model.InferAsync(request, cancel).ConfigureAwait(false))
            {
                // Counted before it is taken: who takes one only never comes back for the end.
                succeeded = true;
                yield return response;
            }

            succeeded = true;
        }
        finally
        {
            var batch = model.Description.MaxBatch > 0 && request.Inputs.Count > 0 && request.Inputs[0].Shape.Count > 0 ? (int)request.Inputs[0].Shape[0] : 1;
            Of(model.Description.Name).Add(_clock.GetElapsedTime(began), batch, succeeded);
        }
    }

    private IInferenceModel? TryFind(string name) =>
        _builtIn.TryGetValue(name, out var builtIn) ? builtIn : _catalog.All.FirstOrDefault(model => model.Name == name) is { } served ? _network(served) : null;

    private InferenceStatistics Of(string model) => _statistics.GetOrAdd(model, static (_, clock) => new InferenceStatistics(clock), _clock);
}
