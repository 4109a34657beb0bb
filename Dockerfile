# By tag; to hold the base fast, give its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:...
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS packages
RUN python3 -m venv /opt/optstudy
COPY requirements.lock /opt/optstudy/
RUN /opt/optstudy/bin/pip install --no-cache-dir --only-binary :all: \
      --require-hashes --requirement /opt/optstudy/requirements.lock

FROM packages AS package
WORKDIR /source
COPY . .
# Apart from the environment, so that a change of the code leaves the gigabytes of its layer as they are.
RUN /opt/optstudy/bin/pip install --no-cache-dir --no-index --no-deps \
      --no-build-isolation --prefix /opt/package .

FROM ${BASE}
# A C++ compiler for torch.compile and Triton: --build-arg COMPILE=1
ARG COMPILE=""
# HOME is open to whatever user --user names.
# hadolint ignore=DL3008  # Debian's archive keeps one version of a package
RUN if [ -n "${COMPILE}" ]; then \
      apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*; \
    fi; \
    install -d -m 1777 /home/optstudy
# USER and LOGNAME name whoever has no line in /etc/passwd.
ENV PATH=/opt/optstudy/bin:${PATH} \
    HOME=/home/optstudy \
    USER=optstudy \
    LOGNAME=optstudy \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    RAY_USAGE_STATS_ENABLED=0 \
    DO_NOT_TRACK=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    OPTSTUDY_LOCK=/opt/optstudy/requirements.lock
COPY --from=packages /opt/optstudy /opt/optstudy
COPY --from=package /opt/package /opt/optstudy
USER 10001:10001
WORKDIR /home/optstudy
ENTRYPOINT ["optstudy"]

# Last, since they change with each commit.
ARG VERSION=0.1.0
ARG COMMIT=unknown
ENV OPTSTUDY_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="optstudy" \
      org.opencontainers.image.description="Compare optimizers under equal tuning budgets, with evidence" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${COMMIT}"
