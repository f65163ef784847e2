using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Options;
using TtaService.Inference;
using TtaService.Serving.Streams;

namespace TtaService.Host.Inference;

/// <summary>The models behind the Open Inference Protocol, by name, and how their requests run.</summary>
internal sealed class InferenceModels
{
    /// <summary>Of a model without versions.</summary>
    public const string OnlyVersion = "1";

    private readonly NetworkModels _networks;
    private readonly TimeProvider _clock;
    private readonly Dictionary<string, IInferenceModel> _builtIn;
    private readonly ConcurrentDictionary<string, InferenceStatistics> _statistics = new(StringComparer.Ordinal);

    public InferenceModels(NetworkModels networks, IOptions<InferenceOptions> options, TimeProvider clock)
    {
        (_networks, _clock) = (networks, clock);
        _builtIn = (options.Value.ConformanceModels ? Conformance.ConformanceModels.All() : []).ToDictionary(model => model.Description.Name, StringComparer.Ordinal);
    }

    /// <summary>The model takes requests.</summary>
    public bool IsReady(string name, string version) => TryFind(name) is { } model && IsOf(model, version);

    /// <exception cref="FailureException">There is no such model, or it can't be served.</exception>
    public IInferenceModel Find(string name, string version)
    {
        if (version.Length > 0 && (!ulong.TryParse(version, out var number) || number == 0))
        {
            throw new FailureException(Failure.Invalid("VERSION_INVALID", "model_version", $"model version '{Engine.ForeignText.Clip(version)}' should be an integer > 0"));
        }

        if (TryFind(name) is { } model && IsOf(model, version))
        {
            return model;
        }

        throw new FailureException(_networks.Broken.FirstOrDefault(broken => broken.Name == name) is { Reason: { } reason }
            ? InferenceErrors.NotReady(name, reason)
            : InferenceErrors.UnknownModel(name, version));
    }

    /// <summary>All models with their versions, and why they do not take requests; empty when they do. A model that goes on while its folder holds one that can't be served is
    /// there twice.</summary>
    public IEnumerable<(string Name, string Version, string Reason)> Index() =>
        _networks.Names.Select(name => (name, TryFind(name)?.Description.Version ?? OnlyVersion, string.Empty))
            .Concat(_networks.Broken.Select(broken => (broken.Name, string.Empty, broken.Reason)))
            .Concat(_builtIn.Values.Select(model => (model.Description.Name, model.Description.Version, string.Empty)));

    /// <summary>Loads a network as its folder is now.</summary>
    /// <exception cref="FailureException">It can't be served, or is built in.</exception>
    public async Task LoadAsync(string name, IReadOnlyCollection<string> parameters)
    {
        RequireNetwork(name);
        if (parameters.Count > 0)
        {
            throw new FailureException(Failure.Invalid(
                "PARAMETERS_UNSUPPORTED",
                "parameters",
                $"load of model '{Engine.ForeignText.Clip(name)}' came with {Engine.ForeignText.Clip(string.Join(", ", parameters))}; put the files into the model repository "
                    + "instead, and load without parameters"));
        }

        try
        {
            await _networks.LoadAsync(name).ConfigureAwait(false);
        }
        catch (FailureException refused)
        {
            throw InferenceErrors.NotLoaded(name, refused.Failure);
        }
    }

    /// <summary>Serves a network no more.</summary>
    /// <exception cref="FailureException">There is none, or it is built in.</exception>
    public Task UnloadAsync(string name)
    {
        RequireNetwork(name);
        return _networks.UnloadAsync(name);
    }

    /// <summary>Of one model, or of all for an empty name.</summary>
    public IEnumerable<ModelStatistics> Statistics(string name, string version) => name.Length > 0
        ? [Of(name).Read(name, Find(name, version).Description.Version)]
        : Index().Where(model => model.Reason.Length == 0).Select(model => Of(model.Name).Read(model.Name, model.Version));

    /// <summary>The only response.</summary>
    /// <exception cref="FailureException">There is none, or the model may have several.</exception>
    public async Task<InferenceResponse> InferOnceAsync(InferenceRequest request, CancellationToken cancel)
    {
        var model = Find(request.Model, request.Version);
        if (model.Description.IsDecoupled)
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "MODEL_DECOUPLED",
                $"ModelInfer RPC doesn't support models with decoupled transaction policy: send requests of model '{request.Model}' on ModelStreamInfer"));
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

    private static bool IsOf(IInferenceModel model, string version) => version.Length == 0 || version == model.Description.Version;

    private void RequireNetwork(string name)
    {
        if (_builtIn.ContainsKey(name))
        {
            throw new FailureException(new Failure(
                FailureKind.FailedPrecondition,
                "MODEL_BUILT_IN",
                $"model '{name}' is built in; it is there as long as Inference:ConformanceModels is true")
            { Field = "model_name" });
        }
    }

    private async IAsyncEnumerable<InferenceResponse> RunAsync(
        IInferenceModel model,
        InferenceRequest request,
        [System.Runtime.CompilerServices.EnumeratorCancellation] CancellationToken cancel)
    {
        var began = _clock.GetTimestamp();
        var succeeded = false;
        try
        {
            await foreach (var response in model.InferAsync(request, cancel).ConfigureAwait(false))
            {
                // Counted before it is taken: who takes one only never comes back for the end.
                succeeded = true;
                yield return response with { Version = model.Description.Version };
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
        _builtIn.TryGetValue(name, out var builtIn) ? builtIn : _networks.Find(name);

    private InferenceStatistics Of(string model) => _statistics.GetOrAdd(model, static (_, clock) => new InferenceStatistics(clock), _clock);
}
