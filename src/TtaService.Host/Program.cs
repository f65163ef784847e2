using TtaService.Host.Hosting;

await TtaHost.Build(args).RunAsync().ConfigureAwait(false);
return 0;
