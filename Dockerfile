# The pipeline's image: every command of `ctr`, from the lock files that make and CI use.
#
#   docker build -t ctr-pipeline:0.1.0 .
#   docker build -t ctr-pipeline:0.1.0-gpu --build-arg ACCELERATOR=gpu .
#   docker build -t ctr-worker:0.1.0 --target worker .                      # Beam's workers on Flink and Dataflow
#   docker run --rm -v "$PWD/data:/data:ro" -v ctr-output:/output ctr-pipeline:0.1.0 run --data /data
#   docker run --rm -v ctr-output:/output -p 127.0.0.1:8500:8500 ctr-pipeline:0.1.0 serve --host 0.0.0.0
#
# It runs with a read-only root, too: --read-only --tmpfs /tmp. The bases are named by tag. Where builds must be
# repeatable to the byte, give digests:
#   docker build --build-arg PYTHON_IMAGE=python:3.10-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.10-slim-bookworm
ARG BEAM_IMAGE=apache/beam_python3.10_sdk:2.61.0

FROM ${PYTHON_IMAGE} AS build
# No pin for the compiler: Debian keeps only the newest version of a release, so a pin would soon not install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements requirements
# Tools of tests and checks go again, and so do TensorFlow's C++ headers (0.4 GB), which only compilers read.
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        -r requirements/tfx-1.16.lock \
    && /opt/venv/bin/pip uninstall --yes --disable-pip-version-check -r requirements/tests.in \
    && rm -r /opt/venv/lib/python3.10/site-packages/tensorflow/include \
    && requirements/check /opt/venv
# cpu, or gpu: the CUDA libraries that this TensorFlow names itself.
ARG ACCELERATOR=cpu
RUN case "$ACCELERATOR" in \
        cpu) ;; \
        gpu) /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
                -r requirements/tfx-1.16-gpu.lock && requirements/check /opt/venv ;; \
        *) echo "ACCELERATOR is '$ACCELERATOR': give cpu or gpu" >&2; exit 1 ;; \
    esac
COPY pyproject.toml ./
COPY ctr ctr
COPY components components
COPY generator generator
COPY models models
COPY pipeline pipeline
COPY serving serving
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index .

FROM ${PYTHON_IMAGE} AS runtime
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ctr-pipeline" \
      org.opencontainers.image.description="TFX pipeline for click-through-rate prediction from behaviour logs" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision="${REVISION}"
# Libraries want a home that can be written to, whatever the user: with a read-only root, /tmp is what there is.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp ctr \
    && install --directory --owner=ctr --group=ctr /output
COPY --from=build /opt/venv /opt/venv
# From here the commands' default folder, output, is the volume.
WORKDIR /
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOME=/tmp \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
VOLUME /output

# Beam's boot program asks the runner for its options and starts Beam's Python worker: this project's code and
# packages are in the image, so it installs nothing, and writes to /tmp alone.
FROM ${BEAM_IMAGE} AS beam

FROM runtime AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
HEALTHCHECK NONE
ENTRYPOINT ["/opt/apache/beam/boot"]

FROM runtime AS pipeline
EXPOSE 8500
# For `serve`: that a model is loaded. Other commands listen on nothing: start those with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; \
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel('127.0.0.1:8500')); \
answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=4); \
raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["ctr"]
CMD ["--help"]
