"""A local gRPC server with TF Serving's API, for machines without ``tensorflow_model_server``.

It answers ``PredictionService`` (Predict, GetModelMetadata), ``ModelService`` (GetModelStatus) and gRPC's health check
for one model, from ``<base>/<integer version>/`` SavedModel directories. docs/serving.md says what differs from TF
Serving.
"""

from __future__ import annotations

import functools
import logging
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from ctr.serving.model import RequestError, ServedModel, invalid
from ctr.serving.versions import VersionWatcher

SIGNATURE_DEF_FIELD: Final = "signature_def"

_logger = logging.getLogger(__name__)


class ModelServer:
    """Serves one model over gRPC while the context is open.

    Args:
      base_path: directory of the versions; it may be empty or missing at first.
      model_name: the name that requests must use.
      host: address to listen on. There is neither TLS nor authentication: keep it to loopback or a trusted network.
      port: 0 takes any free one, see :attr:`port`.
      poll_seconds: time between two looks at ``base_path``.
      threads: requests answered at a time.
      max_concurrent_rpcs: requests accepted at a time, running and waiting; more get RESOURCE_EXHAUSTED.
      max_message_bytes: largest request; a larger one gets RESOURCE_EXHAUSTED.
      grace_seconds: time that requests under way get to finish when the context closes.

    Raises:
      ValueError: if a limit is impossible.
      OSError: on entering, if the address is taken or cannot be used.

    Example:
      >>> with ModelServer("output/serving/ctr", "ctr") as server:  # doctest: +SKIP
      ...     server.wait_until_ready(60)
      ...     print(RankingClient(f"127.0.0.1:{server.port}", "ctr").rank(impression))
    """

    def __init__(
        self,
        base_path: str | Path,
        model_name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        poll_seconds: float = 1.0,
        threads: int = 8,
        max_concurrent_rpcs: int = 256,
        max_message_bytes: int = 16 * 2**20,
        grace_seconds: float = 10.0,
    ) -> None:
        for name, value in (
            ("poll_seconds", poll_seconds),
            ("threads", threads),
            ("max_concurrent_rpcs", max_concurrent_rpcs),
            ("max_message_bytes", max_message_bytes),
        ):
            if value <= 0:
                raise ValueError(f"{name}: must be above 0, got {value}")
        if not 0 <= port <= 65535:
            raise ValueError(f"port: must be 0 to 65535, got {port}")
        self._base_path = Path(base_path)
        self._model_name = model_name
        self._host = host
        self._port = port
        self.grace_seconds = grace_seconds
        self._health = health.HealthServicer()
        self._health.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._watcher = VersionWatcher(
            self._base_path,
            poll_seconds,
            lambda: self._health.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.SERVING),
        )
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            maximum_concurrent_rpcs=max_concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                # Two servers on one port would share its requests instead of the second being refused.
                ("grpc.so_reuseport", 0),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        services = _Services(model_name, self._watcher)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(services, self._server)
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(services, self._server)

    @property
    def port(self) -> int:
        """The port listened on; known once the context is open."""
        return self._port

    @property
    def version(self) -> int | None:
        """The version that takes requests; None before the first is loaded."""
        return self._watcher.live.version if self._watcher.live else None

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until a version is served.

        Raises:
          TimeoutError: after ``timeout`` seconds, with what is known of each version.
        """
        if self._watcher.ready.wait(timeout):
            return
        known = [
            f"version {status.version}: {status.status.error_message or 'still loading'}"
            for status in self._watcher.statuses()
        ]
        raise TimeoutError(
            f"no version of {self._model_name!r} after {timeout:g} s: "
            + ("; ".join(known) or f"{self._base_path} has no directory <integer>/ with a complete SavedModel")
        )

    def __str__(self) -> str:
        return f"{self._host}:{self._port} for model {self._model_name!r} in {self._base_path}"

    def __enter__(self) -> ModelServer:
        address = f"{self._host}:{self._port}"
        try:
            self._port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}; is the port taken? Choose another, or 0 for any") from error
        self._watcher.start()
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._health.enter_graceful_shutdown()
        self._server.stop(self.grace_seconds).wait()
        self._watcher.stop()


def serve_forever(server: ModelServer) -> None:
    """Serves until SIGTERM or SIGINT, then refuses new requests and finishes those under way.

    Call it from the main thread: only that one receives signals. Errors as for :class:`ModelServer`. What happens is
    logged at INFO to the logger ``serving``.
    """
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with server:
            _logger.info("listening on %s", server)
            stop.wait()
            _logger.info("stopping: requests under way have %g s to finish", server.grace_seconds)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _answering(method: Callable[[Any, Any], Any]) -> Callable[[Any, Any, grpc.ServicerContext], Any]:
    """Makes a :class:`RequestError` of a method the error that its caller gets."""

    @functools.wraps(method)
    def answer(service: Any, request: Any, context: grpc.ServicerContext) -> Any:
        try:
            return method(service, request)
        except RequestError as error:
            context.abort(error.code, error.message)

    return answer


class _Services(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, model_name: str, watcher: VersionWatcher) -> None:
        self._model_name = model_name
        self._watcher = watcher

    @_answering
    def Predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        return self._model(request).predict(request)

    @_answering
    def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        if not request.metadata_field:
            raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF_FIELD:
                raise invalid(f"Metadata field {field} is not supported")
        model = self._model(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, signature in model.signature_defs.items():
            signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self._model_name
        response.model_spec.version.value = model.version
        response.metadata[SIGNATURE_DEF_FIELD].Pack(signatures)
        return response

    @_answering
    def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        spec = _model_spec(request)
        statuses = self._watcher.statuses() if spec.name == self._model_name else []
        missing = f"any versions of model {spec.name}"
        if spec.HasField("version"):
            statuses = [status for status in statuses if status.version == spec.version.value]
            missing = f"version {spec.version.value} of model {spec.name}"
        if not statuses:
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Could not find {missing}")
        return get_model_status_pb2.GetModelStatusResponse(model_version_status=statuses)

    def _model(
        self, request: predict_pb2.PredictRequest | get_model_metadata_pb2.GetModelMetadataRequest
    ) -> ServedModel:
        """The version a request asks for; :class:`RequestError` if it is not served."""
        spec = _model_spec(request)
        if spec.HasField("version_label"):
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        # Read once: the watcher may switch versions at any time.
        live = self._watcher.live
        wanted = spec.version.value if spec.HasField("version") else None
        if live is None or spec.name != self._model_name or wanted not in (None, live.version):
            asked = f"Latest({spec.name})" if wanted is None else f"Specific({spec.name}, {wanted})"
            raise RequestError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {asked}")
        return live


def _model_spec(request: Any) -> model_pb2.ModelSpec:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    return request.model_spec
