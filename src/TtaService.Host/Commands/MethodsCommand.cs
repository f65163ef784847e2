using System.CommandLine;
using Spectre.Console;
using TtaService.Engine.Normalization;

namespace TtaService.Host.Commands;

/// <summary><c>tta methods</c>: what can be chosen and set.</summary>
internal static class MethodsCommand
{
    public static Command Build()
    {
        var plugins = KnownMethods.PluginOption();
        var command = new Command("methods", "Lists the normalization methods with their hyperparameters, defaults, ranges and sources.") { plugins };
        command.SetAction(parsed => Write(new Terminal(parsed.InvocationConfiguration), KnownMethods.Of(parsed, plugins)));
        return command;
    }

    private static int Write(Terminal terminal, MethodRegistry methods)
    {
        WriteAll(terminal, methods.All);
        terminal.Line($"Prediction filters, one of which may stand behind a method, but for auto: unmix_tns+lame, or set, tbr+lame{{{{neighbors=3}}}}");
        terminal.Line($"");
        WriteAll(terminal, methods.Filters);
        return 0;
    }

    private static void WriteAll(Terminal terminal, IEnumerable<MethodDescription> methods)
    {
        foreach (var method in methods)
        {
            terminal.Line($"{method.Name}: {method.Summary}");
            terminal.Line($"  from {method.Source}");
            if (method.Version > 1)
            {
                terminal.Line($"  version {method.Version} of its state");
            }

            if (method.Warning is { } warning)
            {
                terminal.Line($"  note: {warning}");
            }

            if (method.Hyperparameters.Count > 0)
            {
                var table = new Table { Border = TableBorder.Simple };
                table.AddColumns("hyperparameter", "default", "range", "meaning");
                foreach (var hyperparameter in method.Hyperparameters)
                {
                    table.AddRow(new Text(hyperparameter.Name), new Text(hyperparameter.Default), new Text(hyperparameter.Range), new Text(hyperparameter.Summary));
                }

                terminal.Write(table);
                terminal.Line($"");
            }
        }
    }
}
