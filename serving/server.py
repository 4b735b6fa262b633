"""A local gRPC server with TF Serving's API, for machines without ``tensorflow_model_server``.

It answers ``PredictionService``, ``ModelService`` and gRPC's health check for one model or several, from
``<base>/<integer version>/`` SavedModel directories. docs/serving.md says what differs from TF Serving.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from ctr.serving.calls import REQUEST_ID, Calls
from ctr.serving.catalogue import Catalogue
from ctr.serving.metrics import Metrics
from ctr.serving.model import RequestError, invalid
from ctr.serving.models_config import FollowedConfig, ModelConfig
from ctr.serving.request_log import RequestLog, RequestLogSettings
from ctr.serving.rest import Api, RestServer
from ctr.serving.services import Services
from ctr.serving.tls import ServerTls

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Access:
    """How a server is reached besides gRPC, and what it writes down of that."""

    rest_port: int | None = None
    """Port of the REST API and of Prometheus' page, on the same host; 0 takes any free one; None: neither."""
    tls: ServerTls | None = None
    """None: in clear text, which is for loopback and trusted networks."""
    log: bool = False
    """Whether each answer gets a line of the logger ``ctr.serving.access``, at INFO."""
    request_log: RequestLogSettings | None = None
    """Which requests are kept, and where; None: none."""


class ModelServer:
    """Serves a model over gRPC while the context is open; :meth:`of_models` serves several.

    Args:
      base_path: directory of the versions; it may be empty or missing at first.
      model_name: the name that requests must use.
      host: address to listen on. Without ``access.tls`` keep it to loopback or a trusted network.
      port: 0 takes any free one, see :attr:`port`.
      poll_seconds: time between two looks at ``base_path``.
      threads: requests answered at a time.
      max_concurrent_rpcs: requests accepted at a time, running and waiting; more get RESOURCE_EXHAUSTED.
      max_message_bytes: largest request; a larger one gets RESOURCE_EXHAUSTED.
      grace_seconds: time that requests under way get to finish when the context closes.
      access: REST, TLS and the log of requests; none by default.

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
        access: Access | None = None,
    ) -> None:
        for name, value in (
            ("poll_seconds", poll_seconds),
            ("threads", threads),
            ("max_concurrent_rpcs", max_concurrent_rpcs),
            ("max_message_bytes", max_message_bytes),
        ):
            if value <= 0:
                raise ValueError(f"{name}: must be above 0, got {value}")
        access = access or Access()
        for name, number in (("port", port), ("rest_port", access.rest_port or 0)):
            if not 0 <= number <= 65535:
                raise ValueError(f"{name}: must be 0 to 65535, got {number}")
        self._host = host
        self._port = port
        self.grace_seconds = grace_seconds
        self._health = health.HealthServicer()
        self._health.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.NOT_SERVING)
        metrics = Metrics()
        self._catalogue = Catalogue(
            [ModelConfig(model_name, Path(base_path))], poll_seconds, self._tell_health, metrics
        )
        self._services = Services(self._catalogue)
        self._request_log = RequestLog(access.request_log, metrics) if access.request_log else None
        calls = Calls(metrics, lambda: self._catalogue.names, access.log, self._request_log)
        self._api = Api(self._catalogue, self._services, calls, metrics)
        self._tls = access.tls
        self._rest_port = access.rest_port
        self._rest_limits = {"threads": threads, "max_body_bytes": max_message_bytes}
        self._rest: RestServer | None = None
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
                service, {name: _handler(calls, name, of, answer) for name, (of, answer) in methods.items()}
            )
            for service, methods in _methods(self._services).items()
        ]
        self._server.add_generic_rpc_handlers(handlers)

    @classmethod
    def of_models(cls, models: Sequence[ModelConfig], **options: Any) -> ModelServer:
        """A server of one or more models, for instance of :func:`ctr.serving.models_config.read_models_config`.

        Its callers may change which ones by ``HandleReloadConfigRequest``. The options are those of the class.
        """
        server = cls(models[0].base_path, models[0].name, **options)
        server._catalogue.begin_with(models)
        server._services.may_reload = True
        return server

    @property
    def port(self) -> int:
        """The port listened on; known once the context is open."""
        return self._port

    @property
    def rest_port(self) -> int | None:
        """The port of the REST API; known once the context is open."""
        return self._rest.port if self._rest else self._rest_port

    @property
    def version(self) -> int | None:
        """The newest version of the first model that takes requests; None before one is loaded."""
        return self._catalogue.newest_version()

    @property
    def models(self) -> list[ModelConfig]:
        """What is served."""
        return self._catalogue.models

    def change(self, models: Sequence[ModelConfig]) -> None:
        """Serves other models from now on; returns before new ones are loaded.

        Raises:
          RequestError: if a label in use would move to a version that is not loaded; then nothing changes.
        """
        self._catalogue.change(models)

    def wait_until_ready(self, timeout: float) -> None:
        """Waits until each model has a version.

        Raises:
          TimeoutError: after ``timeout`` seconds, with what is known of each version.
        """
        if lacking := self._catalogue.wait_until_ready(timeout):
            raise TimeoutError(f"no version after {timeout:g} s of {lacking}")

    def __str__(self) -> str:
        models = ", ".join(f"{model.name!r} in {model.base_path}" for model in self._catalogue.models)
        rest = "" if self.rest_port is None else f" (REST on port {self.rest_port})"
        return f"{self._host}:{self._port}{rest} for model {models}"

    def __enter__(self) -> ModelServer:
        address = f"{self._host}:{self._port}"
        try:
            self._port = (
                self._server.add_secure_port(address, self._tls.credentials())
                if self._tls
                else self._server.add_insecure_port(address)
            )
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}; is the port taken? Choose another, or 0 for any") from error
        if self._rest_port is not None:
            try:
                self._rest = RestServer(self._api, self._host, self._rest_port, tls=self._tls, **self._rest_limits)
            except OSError as error:
                self._server.stop(None).wait()
                raise OSError(f"cannot listen on {self._host}:{self._rest_port} for REST: {error.strerror}") from error
            self._rest.start()
        self._catalogue.start()
        if self._request_log is not None:
            self._request_log.start()
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._health.enter_graceful_shutdown()
        stopped = self._server.stop(self.grace_seconds)
        if self._rest is not None:
            self._rest.stop()
        stopped.wait()
        if self._request_log is not None:
            self._request_log.stop()
        self._catalogue.stop()

    def _tell_health(self) -> None:
        if self._catalogue.is_ready():
            self._health.set(health.OVERALL_HEALTH, health_pb2.HealthCheckResponse.SERVING)


def serve_forever(server: ModelServer, config_file: str | Path | None = None, poll_seconds: float = 0.0) -> None:
    """Serves until SIGTERM or SIGINT, then refuses new requests and finishes those under way.

    Call it from the main thread: only that one receives signals. Errors as for :class:`ModelServer`. What happens is
    logged at INFO to the logger ``serving``.

    Args:
      server: not yet entered.
      config_file: the ``models.config`` that the server's models are from.
      poll_seconds: how often it is read again; 0: never.
    """
    stop = threading.Event()
    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with server:
            _logger.info("listening on %s", server)
            if config_file is not None and poll_seconds > 0:
                followed = FollowedConfig(config_file, server.models, server.change)
                while not stop.wait(poll_seconds):
                    followed.look()
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
            "Classify": (classification_pb2.ClassificationRequest, services.classify),
            "Regress": (regression_pb2.RegressionRequest, services.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, services.multi_inference),
            "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, services.get_model_metadata),
        },
        "tensorflow.serving.ModelService": {
            "GetModelStatus": (get_model_status_pb2.GetModelStatusRequest, services.get_model_status),
            "HandleReloadConfigRequest": (model_management_pb2.ReloadConfigRequest, services.reload_config),
        },
    }


def _handler(calls: Calls, method: str, of: type[Message], answer: Callable[[Any], Message]) -> grpc.RpcMethodHandler:
    """Takes and gives bytes: what is no message would otherwise be gRPC's INTERNAL, without a word of why."""

    def handle(received: bytes, context: grpc.ServicerContext) -> Any:
        def parse() -> Message:
            left = context.time_remaining()
            if left is not None and left <= 0:
                raise RequestError(
                    grpc.StatusCode.DEADLINE_EXCEEDED, "the request's time was over before its turn came"
                )
            return _parsed(of, received)

        request_id = dict(context.invocation_metadata()).get(REQUEST_ID)
        try:
            response = calls.answer(method, "GRPC", str(request_id or ""), parse, answer)
            return response.SerializeToString()
        except RequestError as error:
            refused = error
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
