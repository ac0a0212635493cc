# Both images can be exchanged for local ones: --build-arg SWIFT_IMAGE=… RUNTIME_IMAGE=… (same Debian release, for the C libraries).
ARG SWIFT_IMAGE=swift:6.3-bookworm
ARG RUNTIME_IMAGE=debian:bookworm-slim

FROM ${SWIFT_IMAGE} AS build
RUN apt-get update \
 && apt-get install -y --no-install-recommends libmicrohttpd-dev libsqlite3-dev libturbojpeg0-dev libpng-dev zlib1g-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
# The dependencies are fetched in a layer of their own, which a change of the sources leaves alone.
COPY Package.swift ./
RUN swift package resolve
COPY openapi.yaml ./
COPY Sources Sources
# Not built here, but SwiftPM refuses a package whose targets have no folder.
COPY Tests Tests
COPY Benchmarks/LoadGenerator Benchmarks/LoadGenerator
RUN swift build -c release --static-swift-stdlib --product comfy-bridge \
 && install -s "$(swift build -c release --static-swift-stdlib --show-bin-path)/comfy-bridge" /usr/local/bin/comfy-bridge

FROM ${RUNTIME_IMAGE}
RUN apt-get update \
 && apt-get install -y --no-install-recommends libmicrohttpd12 libsqlite3-0 libturbojpeg0 libpng16-16 ca-certificates \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/apt /var/log/dpkg.log \
 && useradd --uid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin comfy-bridge \
 && install -d -o comfy-bridge -g comfy-bridge /data
COPY --from=build /usr/local/bin/comfy-bridge /usr/local/bin/comfy-bridge
ENV COMFY_BRIDGE_HOST=0.0.0.0 \
    COMFY_BRIDGE_PORT=8189 \
    COMFY_BRIDGE_DATA_DIR=/data
# Inside, every address has to be listened on; who reaches it is decided where the port is published. So a start without a token is not refused
# here as it is elsewhere. Publish to 127.0.0.1 only (-p 127.0.0.1:8189:8189), or set COMFY_BRIDGE_TOKEN or COMFY_BRIDGE_TOKEN_FILE.
ENV COMFY_BRIDGE_ALLOW_INSECURE_BIND=true
# A number, so that Kubernetes' runAsNonRoot can tell that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8189
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD comfy-bridge health --url "http://127.0.0.1:${COMFY_BRIDGE_PORT}/api/v2/health"
ENTRYPOINT ["comfy-bridge"]
CMD ["serve"]
