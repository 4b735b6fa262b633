# Beam's workers on Flink and Dataflow: the pipeline's image, built before, with Beam's boot program in front.
#
#   docker build -t ctr-worker:0.1.0 -f image/worker.Dockerfile .
#
# A file of its own, because Docker's classic builder pulls the base of every stage of a file, wanted or not.
ARG PIPELINE_IMAGE=ctr-pipeline:0.1.0
ARG BEAM_IMAGE=apache/beam_python3.10_sdk:2.61.0

# The program asks the runner for its options and starts Beam's Python worker: this project's code and packages are in
# the image, so it installs nothing, and writes to /tmp alone.
FROM ${BEAM_IMAGE} AS beam

FROM ${PIPELINE_IMAGE} AS worker
COPY --from=beam /opt/apache/beam /opt/apache/beam
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1
HEALTHCHECK NONE
ENTRYPOINT ["/opt/apache/beam/boot"]
