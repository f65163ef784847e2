using System.Globalization;
using System.Numerics.Tensors;
using System.Text.Json;
using System.Text.Json.Nodes;
using TtaService.Engine.Drift;
using TtaService.Engine.Normalization;

namespace TtaService.Engine.Streams;

/// <summary>A stream state as a safetensors file, format <c>tta.stream.v1</c>: one tensor a site and name, and what is needed to refuse it elsewhere.</summary>
internal static class StreamSnapshot
{
    private const string Format = "tta.stream.v1";
    private const string ObservedFramesKey = "observed_frames";
    private const string MethodVersionKey = "method_version";
    private const string ChangesKey = "change_detector";

    private static readonly JsonDocumentOptions Strict = new() { AllowDuplicateProperties = false };
    private static readonly string[] NeverNegative = ["_var", "_std", "_occupancy"];

    /// <summary>The committed state as bytes.</summary>
    public static byte[] Write(StreamState state, ObservedStatistics? observed, string modelDigest, DateTimeOffset created)
    {
        var metadata = new Dictionary<string, string>
        {
            ["format"] = Format,
            ["model"] = modelDigest,
            ["method"] = state.Method.Name,
            [MethodVersionKey] = state.Method.Definition.Version.ToString(CultureInfo.InvariantCulture),
            ["hyperparameters"] = state.Method.Hyperparameters.ToJsonString(),
            ["step"] = state.Steps.ToString(CultureInfo.InvariantCulture),
            ["frames"] = state.Frames.ToString(CultureInfo.InvariantCulture),
            ["seed"] = state.Seed.ToString(CultureInfo.InvariantCulture),
            ["created"] = created.ToString("O", CultureInfo.InvariantCulture),
        };
        var runtime = state.Runtime!;
        List<(IReadOnlyList<LayoutTensor> Tensors, float[] Row)> others = [];
        if (runtime.FilterLayout is { } filter)
        {
            others.Add((filter.Tensors, state.Filter));
        }

        if (observed is not null && state.ObservedFrames > 0)
        {
            metadata[ChangesKey] = state.Changes.Write();
            metadata[ObservedFramesKey] = state.ObservedFrames.ToString(CultureInfo.InvariantCulture);
            others.Add((observed.Layout.Tensors, observed.Arena.Read(state.ObservedRow).ToArray()));
        }

        var own = runtime.Arena.Read(state.Row);
        return others.Count == 0 ? Safetensors.Write(metadata, runtime.Layout.Tensors, own) : Joined(metadata, [(runtime.Layout.Tensors, own.ToArray()), .. others]);
    }

    /// <summary>Checks everything that does not need a row: container, format, model, method and its version, counters.</summary>
    /// <exception cref="SnapshotException">Not usable here; the message says why.</exception>
    public static Checked Check(ReadOnlySpan<byte> file, string modelDigest, MethodRegistry methods)
    {
        var content = Safetensors.Read(file);
        var format = Required(content, "format");
        if (format != Format)
        {
            throw new SnapshotException($"the snapshot's format is '{ForeignText.Clip(format)}'; this version reads '{Format}'");
        }

        var model = Required(content, "model");
        if (model != modelDigest)
        {
            throw new SnapshotException($"the snapshot belongs to model {ForeignText.Clip(model)}, this model is {modelDigest}");
        }

        try
        {
            // First: another version may have other hyperparameters, too.
            RequireVersion(content, methods);
            var method = methods.Settings(Required(content, "method"), Hyperparameters(Required(content, "hyperparameters")));
            return new Checked(
                content,
                method,
                ulong.Parse(Required(content, "seed"), CultureInfo.InvariantCulture),
                Counter(content, "step"),
                Counter(content, "frames"),
                content.Metadata.ContainsKey(ObservedFramesKey) ? Counter(content, ObservedFramesKey) : 0);
        }
        catch (Exception e) when (e is MethodSettingsException or JsonException or FormatException or OverflowException or InvalidOperationException or ArgumentException)
        {
            throw new SnapshotException($"the snapshot's metadata can't be read: {ForeignText.Clip(e.Message, 400)}");
        }
    }

    /// <summary>Whether virtual sites came with a later calibration, so that their state is none of the snapshot.</summary>
    public static bool Lacks(in Checked snapshot, IReadOnlyList<NormalizationSite> sites) => Later(snapshot, sites).Count > 0;

    /// <summary>Copies the tensors into a row that holds the initial state; a virtual site that came with a later calibration keeps it.</summary>
    /// <exception cref="SnapshotException">A tensor is missing, unknown, of another shape or not finite.</exception>
    public static void Fill(in Checked snapshot, ReadOnlySpan<byte> file, MethodRuntime runtime, IReadOnlyList<NormalizationSite> sites, Span<float> row)
    {
        Copy(snapshot, file, runtime.Layout, Later(snapshot, sites), row);
        var known = runtime.Layout.Tensors.Concat(runtime.FilterLayout?.Tensors ?? []).Select(tensor => tensor.Name).ToHashSet(StringComparer.Ordinal);
        if (snapshot.Content.Names.FirstOrDefault(name => !known.Contains(name) && !ObservedStatistics.IsTensor(name)) is { } unknown)
        {
            throw new SnapshotException($"the snapshot holds tensor '{ForeignText.Clip(unknown)}', which its method does not have");
        }
    }

    /// <summary>What the method's prediction filter keeps; empty without one.</summary>
    /// <exception cref="SnapshotException">A tensor is missing, of another shape or not finite.</exception>
    public static float[] FilterOf(in Checked snapshot, ReadOnlySpan<byte> file, MethodRuntime runtime)
    {
        var state = runtime.InitialFilter();
        if (runtime.FilterLayout is { } layout)
        {
            Copy(snapshot, file, layout, [], state);
        }

        return state;
    }

    /// <summary>Copies the observed statistics into their row. A snapshot without them, or without those of a site that came later, leaves the stream as one that nothing
    /// was observed of.</summary>
    /// <exception cref="SnapshotException">A tensor is missing, of another shape or not finite.</exception>
    public static void FillObserved(in Checked snapshot, ReadOnlySpan<byte> file, StateLayout layout, IReadOnlyList<NormalizationSite> sites, Span<float> row, StreamState state)
    {
        if (snapshot.ObservedFrames > 0 && Later(snapshot, sites).Count == 0)
        {
            Copy(snapshot, file, layout, [], row);
            state.ObservedFrames = snapshot.ObservedFrames;
            if (snapshot.Content.Metadata.TryGetValue(ChangesKey, out var changes))
            {
                state.Changes.Restore(changes);
            }
        }
    }

    private static byte[] Joined(Dictionary<string, string> metadata, IReadOnlyList<(IReadOnlyList<LayoutTensor> Tensors, float[] Row)> parts)
    {
        var (tensors, offset) = (new List<LayoutTensor>(), 0);
        foreach (var (own, row) in parts)
        {
            var start = offset;
            tensors.AddRange(own.Select(tensor => tensor with { Offset = start + tensor.Offset }));
            offset += row.Length;
        }

        return Safetensors.Write(metadata, tensors, [.. parts.SelectMany(part => part.Row)]);
    }

    // Virtual sites that the snapshot knows nothing of: it was written before the model's calibration.
    private static HashSet<string> Later(in Checked snapshot, IReadOnlyList<NormalizationSite> sites)
    {
        var known = snapshot.Content.Names.Select(SiteOf).ToHashSet(StringComparer.Ordinal);
        return sites.Where(site => site.Kind == SiteKind.Virtual && !known.Contains(site.Name)).Select(site => site.Name).ToHashSet(StringComparer.Ordinal);
    }

    private static string SiteOf(string tensor) => tensor.LastIndexOf('.') is >= 0 and var dot ? tensor[..dot] : tensor;

    private static void Copy(in Checked snapshot, ReadOnlySpan<byte> file, StateLayout layout, HashSet<string> later, Span<float> row)
    {
        foreach (var tensor in layout.Tensors.Where(tensor => !later.Contains(SiteOf(tensor.Name))))
        {
            if (!snapshot.Content.Contains(tensor.Name))
            {
                if (tensor.MayLack)
                {
                    continue;
                }

                throw new SnapshotException($"the snapshot lacks tensor '{tensor.Name}'");
            }

            var shape = snapshot.Content.Shape(tensor.Name);
            if (!shape.AsSpan().SequenceEqual(tensor.Shape))
            {
                throw new SnapshotException($"tensor '{tensor.Name}' is [{string.Join(',', shape)}], expected [{string.Join(',', tensor.Shape)}]");
            }

            var values = row.Slice(tensor.Offset, tensor.Length);
            snapshot.Content.CopyTo(file, tensor.Name, values);
            if (!TensorPrimitives.IsFiniteAll<float>(values))
            {
                throw new SnapshotException($"tensor '{tensor.Name}' holds values that are not finite");
            }

            if (Array.Exists(NeverNegative, ending => tensor.Name.EndsWith(ending, StringComparison.Ordinal)) && TensorPrimitives.Min<float>(values) < 0)
            {
                throw new SnapshotException($"tensor '{tensor.Name}' holds negative values");
            }
        }
    }

    // A snapshot from before methods had versions is of the first.
    private static void RequireVersion(Safetensors content, MethodRegistry methods)
    {
        var version = content.Metadata.TryGetValue(MethodVersionKey, out var written) ? int.Parse(written, NumberStyles.None, CultureInfo.InvariantCulture) : 1;
        if (methods.Find(Required(content, "method")) is { } method && method.Version != version)
        {
            throw new SnapshotException($"the snapshot's state is of version {version} of method {method.Name}, here runs version {method.Version}, which does not read it; "
                + $"run the release or the plug-in that has version {version}, or begin the stream anew");
        }
    }

    private static string Required(Safetensors content, string key) => content.Metadata.TryGetValue(key, out var value)
        ? value
        : throw new SnapshotException($"the snapshot's metadata lacks '{key}'");

    private static JsonObject? Hyperparameters(string json) => JsonNode.Parse(json, documentOptions: Strict) switch
    {
        null => null,
        JsonObject values => values,
        _ => throw new FormatException("the hyperparameters are no JSON object"),
    };

    private static long Counter(Safetensors content, string key)
    {
        var value = long.Parse(Required(content, key), NumberStyles.None, CultureInfo.InvariantCulture);
        return value <= StreamState.MaxCount ? value : throw new FormatException($"{key} is {value}, at most {StreamState.MaxCount} is read");
    }

    internal readonly record struct Checked(Safetensors Content, MethodSettings Method, ulong Seed, long Steps, long Frames, long ObservedFrames);
}
