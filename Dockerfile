# compute_ctl without a Postgres: the server with the neon extension comes from your own image, see docs/operations.md.
#
#     docker build --build-arg BUILD_TAG=release-1 -t compute-ctl .

ARG BASE=docker.io/library/debian:bookworm-slim

FROM ${BASE} AS build
# npm is Debian's. It starts the Node that package-lock.json pins, which wants libatomic1.
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates libatomic1 npm \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY package.json package-lock.json tsconfig.json ./
RUN npm ci --no-audit --no-fund
COPY LICENSE ./
COPY bin bin
COPY scripts scripts
COPY build build
COPY src src
# Names the release in logs, metrics and paths of extension archives.
ARG BUILD_TAG=latest
ENV BUILD_TAG=${BUILD_TAG}
# The compile cache in dist is bound to the Node that is copied along.
RUN npm run build \
  && mkdir /opt/compute_ctl \
  && cp -r package.json LICENSE bin dist /opt/compute_ctl/ \
  && cp --parents node_modules/node-linux-*/bin/node node_modules/node-linux-*/LICENSE /opt/compute_ctl/

FROM ${BASE}
# More Debian packages for the runtime, by their names.
ARG PACKAGES=""
# tini is process 1: it reaps what a dying Postgres leaves, and hands signals on.
RUN apt-get update \
  && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    ca-certificates libatomic1 libstdc++6 tini ${PACKAGES} \
  && rm -rf /var/lib/apt/lists/*
# The parent of PGDATA belongs to the user that Postgres runs as.
RUN (id postgres >/dev/null 2>&1 || useradd --system --user-group --home-dir /var/db/postgres --shell /bin/sh postgres) \
  && install -d -o postgres -g postgres -m 0750 /var/db/postgres /var/db/postgres/compute
COPY --from=build /opt/compute_ctl /opt/compute_ctl
RUN ln -s /opt/compute_ctl/bin/compute_ctl /usr/local/bin/compute_ctl

ARG BUILD_TAG=latest
LABEL org.opencontainers.image.title="compute_ctl" \
  org.opencontainers.image.description="Agent of a Postgres compute node: a drop-in replacement for Neon's compute_ctl" \
  org.opencontainers.image.licenses="Apache-2.0" \
  org.opencontainers.image.version="${BUILD_TAG}"

USER postgres
WORKDIR /var/db/postgres
# The API for the control plane. The other one, for Postgres, listens on loopback.
EXPOSE 3080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/compute_ctl/bin/compute_ctl"]
