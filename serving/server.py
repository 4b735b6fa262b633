"""A local gRPC server with TF Serving's API, for machines without ``tensorflow_model_server``.

It answers ``PredictionService``, ``ModelService``, gRPC's health check and its reflection for one model or several,
from ``<base>/<integer version>/`` SavedModel directories. docs/serving.md says what differs from TF Serving.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from ctr.serving.batching import DEADLINE, Batcher
from ctr.serving.calls import REQUEST_ID, Calls
from ctr.serving.catalogue import Catalogue
from ctr.serving.limits import Batching, RequestLogSettings
from ctr.serving.metrics import Metrics, text_of
from ctr.serving.model import RequestError, invalid
from ctr.serving.models_config import ModelConfig
from ctr.serving.processes import Siblings, serve_until_ended
from ctr.serving.request_log import RequestLog
from ctr.serving.rest import Api, RestServer
from ctr.serving.services import MODEL_SERVICE, PREDICTION_SERVICE, SERVICES, Services
from ctr.serving.tls import ServerTls

_LATE_SECONDS: Final = 60.0
"""That a process which takes the place of another waits for its versions, before it listens without them."""

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
    one_of_several: bool = False
    """Whether other processes may listen on the same ports, see :mod:`ctr.serving.processes`."""
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
      batching: how requests of several clients run together; ``Batching(size=1)``: never.

    Raises:
      ValueError: if a limit is impossible.
      OSError: on entering, if the address is taken or cannot be used.

    Example:
      >>> with ModelServer("output/serving/ctr", "ctr") as server:  # doctest: +SKIP
      ...     server.wait_until_ready(60)
      ...     print(RankingClient(f"127.0.0.1:{server.port}", "ctr").rank(impression))
    """

    def __init__(  # noqa: PLR0913 - each is a limit of its own, by name
        self,
        base_path: str | Path,
        model_name: str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        poll_seconds: float = 1.0,
        threads: int = 32,
        max_concurrent_rpcs: int = 256,
        max_message_bytes: int = 16 * 2**20,
        grace_seconds: float = 10.0,
        access: Access | None = None,
        batching: Batching | None = None,
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
            [ModelConfig(model_name, Path(base_path))],
            poll_seconds,
            self._tell_health,
            metrics,
            functools.partial(Batcher, batching=batching or Batching()),
        )
        self._services = Services(self._catalogue)
        self._request_log = (
            RequestLog(access.request_log, metrics, self._catalogue.own_inputs) if access.request_log else None
        )
        calls = Calls(metrics, lambda: self._catalogue.names, access.log, self._request_log)
        self._api = Api(self._catalogue, self._services, calls, metrics)
        self._tls = access.tls
        self._one_of_several = access.one_of_several
        self._waits_for_versions = False
        self._listens = threading.Event()
        self._metrics = metrics
        self._rest_port = access.rest_port
        self._rest_limits = {"threads": threads, "max_body_bytes": max_message_bytes}
        self._rest: RestServer | None = None
        self._server = grpc.server(
            futures.ThreadPoolExecutor(threads, thread_name_prefix="rpc"),
            maximum_concurrent_rpcs=max_concurrent_rpcs,
            options=[
                ("grpc.max_receive_message_length", max_message_bytes),
                # Two servers on one port would share its requests instead of the second being refused.
                ("grpc.so_reuseport", int(access.one_of_several)),
            ],
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME], self._server)
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

    def duties(self) -> dict[str, Callable[[Any], Any]]:
        """What this server does when it is one of several, and all are asked for it."""
        return {
            "metrics": lambda _: self._metrics.snapshot(),
            "check": self._catalogue.check,
            "change": self.change,
            "change_and_wait": self._catalogue.change_and_wait,
        }

    def join(self, siblings: Siblings, may_reload: bool, waits_for_versions: bool) -> None:
        """Makes it one of several, before it is entered.

        Args:
          siblings: the line to the others.
          may_reload: whether callers may change which models are served.
          waits_for_versions: whether it listens only when it has them.
        """

        def change(models: Sequence[ModelConfig]) -> None:
            well, words = siblings.ask("change_and_wait", tuple(models))
            if not well:
                raise RequestError(grpc.StatusCode[words[0]], words[1])

        self._services.may_reload = may_reload
        self._services.change = change
        self._catalogue.before_serving = siblings.wait_for_all
        self._api.metrics_text = lambda: text_of(siblings.ask("metrics")[1])
        self._waits_for_versions = waits_for_versions

    def wait_until_listening(self) -> None:
        """Waits until callers can reach it."""
        self._listens.wait()

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
        if self._waits_for_versions:
            self._catalogue.start()
            self._catalogue.wait_until_ready(_LATE_SECONDS)
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
                self._rest = RestServer(
                    self._api,
                    self._host,
                    self._rest_port,
                    tls=self._tls,
                    one_of_several=self._one_of_several,
                    **self._rest_limits,
                )
            except OSError as error:
                self._server.stop(None).wait()
                raise OSError(f"cannot listen on {self._host}:{self._rest_port} for REST: {error.strerror}") from error
            self._rest.start()
        if not self._waits_for_versions:
            self._catalogue.start()
        if self._request_log is not None:
            self._request_log.start()
        self._server.start()
        self._listens.set()
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
    serve_until_ended(server, config_file, poll_seconds)


def _methods(services: Services) -> dict[str, dict[str, tuple[type[Message], Callable[[Any], Message]]]]:
    """Service -> method -> the message that it takes, and what answers it."""
    return {
        PREDICTION_SERVICE: {
            "Predict": (predict_pb2.PredictRequest, services.predict),
            "Classify": (classification_pb2.ClassificationRequest, services.classify),
            "Regress": (regression_pb2.RegressionRequest, services.regress),
            "MultiInference": (inference_pb2.MultiInferenceRequest, services.multi_inference),
            "GetModelMetadata": (get_model_metadata_pb2.GetModelMetadataRequest, services.get_model_metadata),
        },
        MODEL_SERVICE: {
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
            DEADLINE.set(None if left is None else time.monotonic() + left)
            return _parsed(of, received)

        request_id = dict(context.invocation_metadata()).get(REQUEST_ID)
        try:
            response = calls.answer(method, "GRPC", str(request_id or ""), parse, answer)
            return response.SerializeToString()
        except RequestError as error:
            code, message = error.code, error.message
        return context.abort(code, message)

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
