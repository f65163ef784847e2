# syntax=docker/dockerfile:1
# The service as an image. Flavours:
#   docker build -t tta:cpu .
#   docker build -t tta:cuda12.8 --build-arg TORCH=cuda .
# With --sbom=true --provenance=true the builder attaches the whole image's bill of materials; /app/sbom.cdx.json lists the program's packages in any case.

FROM mcr.microsoft.com/dotnet/sdk:10.0-noble AS build
ARG TORCH=cpu
# strip, for the symbol tables of libtorch.
RUN apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*
WORKDIR /src

# What decides the packages comes first: a change of code does not download libtorch again.
COPY global.json .editorconfig BannedSymbols.txt Directory.Build.props Directory.Build.targets Directory.Packages.props ./
COPY build/ build/
COPY src/TtaService.Client/TtaService.Client.csproj src/TtaService.Client/
COPY src/TtaService.Engine/TtaService.Engine.csproj src/TtaService.Engine/
COPY src/TtaService.Evaluation/TtaService.Evaluation.csproj src/TtaService.Evaluation/
COPY src/TtaService.Serving/TtaService.Serving.csproj src/TtaService.Serving/
COPY src/TtaService.Host/TtaService.Host.csproj src/TtaService.Host/
RUN dotnet restore src/TtaService.Host -p:Torch="$TORCH" -p:PublishReadyToRun=true

COPY protos/ protos/
COPY src/ src/
COPY deploy/models/ deploy/models/
# Compiled ahead of time: a replica that has just started must not hold up the cameras that come to it.
RUN dotnet publish src/TtaService.Host -c Release --no-restore -o /publish -p:Torch="$TORCH" -p:StripLibTorch=true -p:WriteBom=true -p:PublishReadyToRun=true

# libtorch as it was stripped must still run a model: eight frames of the demo's.
RUN HOME=/nonexistent /publish/tta evaluate --model fashion-mnist --data /publish/models/fashion-mnist/sample --method source,adaptive --batch-size 1 --limit 8

# Layers from what changes rarely to what changes with each build: natives, packages, the program.
RUN mkdir -p /natives /packages /empty \
 && find /publish -maxdepth 1 -name '*.so*' -exec mv -t /natives {} + \
 && find /publish -maxdepth 1 -name '*.dll' ! -name 'tta.dll' ! -name 'TtaService.*' -exec mv -t /packages {} +

# Ubuntu 24.04 without shell and package manager; its user app has the id 1654.
FROM mcr.microsoft.com/dotnet/aspnet:10.0-noble-chiseled AS runtime
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="TtaService" \
      org.opencontainers.image.description="Serves ONNX vision models over gRPC and adapts their normalization to each camera stream" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="mcr.microsoft.com/dotnet/aspnet:10.0-noble-chiseled"
COPY --link --from=build /natives/ /app/
COPY --link --from=build /packages/ /app/
COPY --link --from=build /publish/ /app/
# Where the file store keeps streams; a volume that is mounted here takes over the owner.
COPY --from=build --chown=1654:1654 /empty/ /data/

# The root file system may be read-only: only /data is written, and with Store__Kind=redis nothing is. Diagnostics would open a socket in /tmp.
# NVIDIA_*: read by NVIDIA's container runtime, and by nothing else.
ENV Server__Address=* \
    Store__Path=/data \
    DOTNET_EnableDiagnostics=0 \
    MALLOC_ARENA_MAX=2 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 1654:1654
WORKDIR /app
VOLUME /data
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --start-interval=2s CMD ["/app/tta", "health"]
ENTRYPOINT ["/app/tta"]
CMD ["serve"]
