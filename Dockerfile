# riskgate as a container image: built from source, on nothing but the libraries that it links. docs/DEPLOY.md explains.
#
#   docker build --build-arg RISKGATE_COMMIT="$(git rev-parse HEAD)" --tag riskgate .

FROM rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082 AS build
WORKDIR /src

# What is fetched changes seldom and is kept in layers of its own. Every script pins what it fetches by digest.
COPY scripts/ scripts/
RUN scripts/setup.sh build && scripts/fetch-onnxruntime.sh
# `--build-arg GEO=no` leaves the address databases out: 170 MB less, and no facts about networks.
ARG GEO=yes
# hadolint ignore=DL3059
RUN if [ "$GEO" = yes ]; then scripts/fetch-geo.sh; fi

COPY . .
ARG RISKGATE_COMMIT=""
RUN cargo build --profile dist --locked --package riskgate --bin riskgate
# hadolint ignore=DL3059
RUN if [ "$GEO" = yes ]; then flag=; else flag=--without-geo; fi \
    && scripts/image-root.sh target/dist/riskgate /image $flag

FROM scratch
ARG RISKGATE_COMMIT=""
LABEL org.opencontainers.image.title="riskgate" \
      org.opencontainers.image.description="Risk-scoring reverse proxy for the edge in front of WSO2 Identity Server" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$RISKGATE_COMMIT"
COPY --from=build /image /
# Nothing else belongs to the user who runs it.
COPY --from=build --chown=65532:65532 /image/var/lib/riskgate /var/lib/riskgate
USER 65532:65532
WORKDIR /opt/riskgate
VOLUME ["/var/lib/riskgate"]
# Clients. The operators' listener stays on the container's own loopback unless the configuration says otherwise.
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["/opt/riskgate/riskgate", "health", "-c", "/etc/riskgate/riskgate.toml"]
ENTRYPOINT ["/opt/riskgate/riskgate"]
CMD ["run", "-c", "/etc/riskgate/riskgate.toml"]
