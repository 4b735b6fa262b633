# The pipeline's image: every command of `python -m pipeline`, from the lock file that make and CI use.
#
#   docker build -t ctr-pipeline .
#   docker run --rm -v "$PWD/data:/data:ro" -v ctr-output:/output ctr-pipeline run --data /data
#   docker run --rm -v ctr-output:/output -p 127.0.0.1:8500:8500 ctr-pipeline serve --host 0.0.0.0
#
# The base is named by tag. Where builds must be repeatable to the byte, give a digest:
#   docker build --build-arg PYTHON_IMAGE=python:3.10-slim-bookworm@sha256:...
ARG PYTHON_IMAGE=python:3.10-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
# No pin for the compiler: Debian keeps only the newest version of a release, so a pin would soon not install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --require-hashes \
        -r requirements.lock \
    && /opt/venv/bin/pip check

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="ctr-pipeline" \
      org.opencontainers.image.description="TFX pipeline for click-through-rate prediction from behaviour logs" \
      org.opencontainers.image.version="0.1.0"
RUN useradd --uid 10001 --user-group --create-home ctr \
    && install --directory --owner=ctr --group=ctr /output
COPY --from=build /opt/venv /opt/venv
COPY . /app
# From here the commands' default folder, output, is the volume.
WORKDIR /
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME /output
EXPOSE 8500
# For `serve`: that a model is loaded. Other commands listen on nothing: start those with --no-healthcheck.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "\
import grpc; from grpc_health.v1 import health_pb2, health_pb2_grpc; \
stub = health_pb2_grpc.HealthStub(grpc.insecure_channel('127.0.0.1:8500')); \
answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=4); \
raise SystemExit(answer.status != health_pb2.HealthCheckResponse.SERVING)"]
ENTRYPOINT ["python", "-m", "pipeline"]
CMD ["--help"]
