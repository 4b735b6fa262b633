"""A local gRPC server with TF Serving's API, for machines without ``tensorflow_model_server``.

It answers ``PredictionService`` (Predict, GetModelMetadata), ``ModelService`` (GetModelStatus) and gRPC's health check
for one model, from ``<base>/<integer version>/`` SavedModel directories. docs/serving.md says what differs from TF
Serving.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, predict_pb2

from ctr.serving.model import RequestError, invalid
from ctr.serving.services import Services
from ctr.serving.versions import VersionWatcher

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
        handlers = [
            grpc.method_handlers_generic_handler(
                service, {name: _handler(of, answer) for name, (of, answer) in methods.items()}
            )
            for service, methods in _methods(Services(model_name, self._watcher)).items()
        ]
        self._server.add_generic_rpc_handlers(handlers)

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


def _methods(services: Services) -> dict[str, dict[str, tuple[type[Message], Callable[[Any], Message]]]]:
    """Service -> method -> the message that it takes, and what answers it."""
    return {
        "tensorflow.serving.PredictionService": {
            "Predict": (predict_pb2.PredictRequest, services.predict),
            "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, services.get_model_metadata),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, services.get_model_status),
        },
    }


def _handler(of: type[Message], answer: Callable[[Any], Message]) -> grpc.RpcMethodHandler:
    """Takes and gives bytes: what is no message would otherwise be gRPC's INTERNAL, without a word of why."""

    def handle(received: bytes, context: grpc.ServicerContext) -> Any:
        try:
            return answer(_parsed(of, received)).SerializeToString()
        except RequestError as error:
            refused = error
        except Exception as error:
            _logger.exception("a %s failed", of.DESCRIPTOR.name)
            refused = RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        return context.abort(refused.code, refused.message)

    return grpc.unary_unary_rpc_method_handler(handle)


def _parsed(of: type[Message], received: bytes) -> Message:
    message = of()
    try:
        # Some of protobuf's versions read up to a stray end of a group, and only warn.
        if message.ParseFromString(received) == len(received):
            return message
        problem = "it ends before its last byte"
    # Protobuf has its DecodeError for most, and others for text that is no UTF-8.
    except (DecodeError, ValueError) as error:
        problem = str(error)
    raise invalid(f"the {len(received)} bytes sent are no {of.DESCRIPTOR.full_name}: {problem}")
