# The project's images: every command of `ctr`, and with TensorFlow alone the server.
#
#   docker build -t ctr-pipeline:0.1.0 .
#   docker build -t ctr-pipeline:0.1.0-gpu --build-arg ACCELERATOR=gpu .
#   docker build -t ctr-serving:0.1.0 --target serving .
#   docker build -t ctr-worker:0.1.0 -f image/worker.Dockerfile .           # Beam's workers on Flink and Dataflow
#   docker run --rm -v "$PWD/data:/data:ro" -v ctr-output:/output ctr-pipeline:0.1.0 run --data /data
#   docker run --rm -v ctr-output:/output -p 127.0.0.1:8500:8500 ctr-serving:0.1.0
#
# They run with a read-only root, too: --read-only --tmpfs /tmp. The base is named by tag. Where builds must be
# repeatable to the byte, give a digest: --build-arg PYTHON_IMAGE=python:3.10-slim-bookworm@sha256:...
#
# Base and locks, of requirements/: LOCK.lock has all packages, LOCK-serving.lock the server's of the same versions, and
# LOCK-cpu.lock or LOCK-gpu.lock what the accelerator needs. The newer stack:
#   --build-arg PYTHON_IMAGE=python:3.13-slim-trixie --build-arg LOCK=tfx-1.21
ARG PYTHON_IMAGE=python:3.10-slim-bookworm
ARG LOCK=tfx-1.16
# cpu or gpu.
ARG ACCELERATOR=cpu

FROM ${PYTHON_IMAGE} AS serving-packages
# No pin for the compiler: Debian keeps only the newest version of a release, so a pin would soon not install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ARG LOCK
ARG ACCELERATOR
COPY image/install-packages.sh image/
COPY requirements requirements
RUN python3 -m venv /opt/venv \
    && image/install-packages.sh /opt/venv "requirements/$LOCK-serving.lock" "requirements/$LOCK-$ACCELERATOR.lock"

FROM ${PYTHON_IMAGE} AS code
COPY ctr /app/ctr
COPY components /app/components
COPY generator /app/generator
COPY models /app/models
COPY pipeline /app/pipeline
COPY serving /app/serving
# A read-only root keeps no bytecode that is made later.
RUN python3 -m compileall -q --invalidation-mode unchecked-hash /app

FROM ${PYTHON_IMAGE} AS runtime
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ctr-pipeline" \
      org.opencontainers.image.description="TFX pipeline for click-through-rate prediction from behaviour logs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# Libraries want a home that can be written to, whatever the user: with a read-only root, /tmp is what there is.
# Python's own modules come without bytecode in the official image, and each process would compile them again.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp ctr \
    && install --directory --owner=ctr --group=ctr /output \
    && python3 -m compileall -q -x '/(test|tests|idlelib|site-packages)/' \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
# From here the commands' default folder, output, is the volume.
WORKDIR /
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /output
EXPOSE 8500
# For `serve`: that a model is loaded. Other commands listen on nothing: start those with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; \
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel('127.0.0.1:8500')); \
answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=4); \
raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["python", "-m", "ctr"]

FROM runtime AS serving
COPY --from=serving-packages /opt/venv /opt/venv
COPY --from=code /app /app
CMD ["serve", "--host", "0.0.0.0"]

FROM serving-packages AS pipeline-packages
ARG LOCK
ARG ACCELERATOR
RUN image/install-packages.sh /opt/venv "requirements/$LOCK.lock" "requirements/$LOCK-$ACCELERATOR.lock" \
        requirements/tests.in

FROM runtime AS pipeline
COPY --from=pipeline-packages /opt/venv /opt/venv
COPY --from=code /app /app
CMD ["--help"]
