"""TF Serving's REST API for people with curl, and Prometheus' page: ``/v1/models/...`` and ``/metrics``.

Made of the standard library's HTTP server, within limits: a pool of threads, a number of connections that wait, the
size and the time of a request. Each connection brings one request.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable
from concurrent import futures
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final
from urllib.parse import unquote

import grpc
from google.protobuf.json_format import MessageToDict
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from ctr.serving.calls import REQUEST_ID, Calls
from ctr.serving.catalogue import Catalogue
from ctr.serving.json_tensors import classify_json, fill_examples, fill_predict, predict_json, regress_json
from ctr.serving.metrics import Metrics
from ctr.serving.model import RequestError, invalid
from ctr.serving.services import Services
from ctr.serving.signatures import SIGNATURE_DEF_FIELD
from ctr.serving.tls import ServerTls

METRICS_PATHS: Final = ("/metrics", "/monitoring/prometheus/metrics")
"""Prometheus' usual path, and TF Serving's."""
READ_SECONDS: Final = 10.0
"""In which a request must have come as a whole."""
WAITING_CONNECTIONS: Final = 64
"""Beyond those that threads answer; more are refused with 503."""

_PATH: Final = re.compile(
    r"/v1/models/(?P<name>[^/:]+)(/versions/(?P<version>\d{1,19})|/labels/(?P<label>[^/:]+))?(?P<rest>:predict|:classify|:regress|/metadata)?"
)
_HTTP_STATUS: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.FAILED_PRECONDITION: 412,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
"""Others are 500."""
_BUSY: Final = (
    b'HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n{"error": "too many requests at a time"}\n'
)

_logger = logging.getLogger(__name__)


class Api:
    """What the paths answer, each as a status, a content type and a body.

    Attributes:
      metrics_text: what Prometheus gets.
    """

    def __init__(self, catalogue: Catalogue, services: Services, calls: Calls, metrics: Metrics) -> None:
        self._catalogue = catalogue
        self._services = services
        self._calls = calls
        self.metrics_text = metrics.text

    def answer(self, verb: str, path: str, body: bytes, request_id: str | None) -> tuple[int, str, bytes]:
        """Answers a request; errors are JSON with the key ``error``."""
        path = path.partition("?")[0]
        if verb == "GET" and path in METRICS_PATHS:
            return 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics_text().encode()
        try:
            document = self._document(verb, path, body, request_id)
        except RequestError as error:
            return _HTTP_STATUS.get(error.code, 500), "application/json", _json({"error": error.message})
        return 200, "application/json", _json(document)

    def _document(self, verb: str, path: str, body: bytes, request_id: str | None) -> dict[str, Any]:
        found = _PATH.fullmatch(path)
        if found is None or (verb == "POST") != (found["rest"] or "").startswith(":"):
            raise invalid(
                f"Malformed request: {verb} {path}: there are GET /v1/models/NAME[/versions/N|/labels/L][/metadata], "
                f"POST the same with :predict, :classify or :regress, and GET {METRICS_PATHS[0]}"
            )
        spec = model_pb2.ModelSpec(name=unquote(found["name"]))
        if found["version"] is not None:
            # Beyond what a version can be there is none either.
            spec.version.value = min(int(found["version"]), 2**63 - 1)
        elif found["label"] is not None:
            spec.version_label = unquote(found["label"])
        if found["rest"] == ":predict":
            return self._predict(spec, body, request_id)
        if found["rest"] == ":classify":
            classify = classification_pb2.ClassificationRequest(model_spec=spec)
            return self._of_examples("Classify", classify, self._services.classify, classify_json, body, request_id)
        if found["rest"] == ":regress":
            regress = regression_pb2.RegressionRequest(model_spec=spec)
            return self._of_examples("Regress", regress, self._services.regress, regress_json, body, request_id)
        if found["rest"] == "/metadata":
            return self._metadata(spec, request_id)
        return self._status(spec, request_id)

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes, request_id: str | None) -> dict[str, Any]:
        document: dict[str, Any] = {}

        def answer(request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
            model = self._catalogue.find(spec)
            by_row = fill_predict(body, request, model)
            response = model.predict(request)
            document.update(predict_json(response, by_row))
            return response

        request = predict_pb2.PredictRequest(model_spec=spec)
        self._calls.answer("Predict", "REST", request_id, lambda: request, answer)
        return document

    def _of_examples(
        self,
        method: str,
        request: Any,
        service: Callable[[Any], Any],
        as_json: Callable[[Any], dict[str, Any]],
        body: bytes,
        request_id: str | None,
    ) -> dict[str, Any]:
        def answer(request: Any) -> Any:
            fill_examples(body, request)
            return service(request)

        return as_json(self._calls.answer(method, "REST", request_id, lambda: request, answer))

    def _metadata(self, spec: model_pb2.ModelSpec, request_id: str | None) -> dict[str, Any]:
        request = get_model_metadata_pb2.GetModelMetadataRequest(model_spec=spec, metadata_field=[SIGNATURE_DEF_FIELD])
        response = self._calls.answer(
            "GetModelMetadata", "REST", request_id, lambda: request, self._services.get_model_metadata
        )
        document: dict[str, Any] = MessageToDict(response, preserving_proto_field_name=True)
        return document

    def _status(self, spec: model_pb2.ModelSpec, request_id: str | None) -> dict[str, Any]:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        response = self._calls.answer(
            "GetModelStatus", "REST", request_id, lambda: request, self._services.get_model_status
        )
        # MessageToDict leaves out what is 0 and empty, which is what clients look for here.
        statuses = [
            {
                "version": str(status.version),
                "state": get_model_status_pb2.ModelVersionStatus.State.Name(status.state),
                "status": {
                    "error_code": MessageToDict(status.status, preserving_proto_field_name=True).get(
                        "error_code", "OK"
                    ),
                    "error_message": status.status.error_message,
                },
            }
            for status in response.model_version_status
        ]
        return {"model_version_status": statuses}


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, indent=1).encode() + b"\n"


class RestServer:
    """Answers HTTP between :meth:`start` and :meth:`stop`.

    Args:
      api: what answers.
      host: address to listen on.
      port: 0 takes any free one, see :attr:`port`.
      threads: requests answered at a time.
      max_body_bytes: largest body; a larger one gets 413.
      tls: turns HTTPS on.
      one_of_several: whether other processes may listen on the same port.

    Raises:
      OSError: if the address is taken or cannot be used.
    """

    def __init__(
        self,
        api: Api,
        host: str,
        port: int,
        *,
        threads: int,
        max_body_bytes: int,
        tls: ServerTls | None = None,
        one_of_several: bool = False,
    ) -> None:
        handler = type("Handler", (_Handler,), {"api": api, "max_body_bytes": max_body_bytes})
        self._server = _Bounded((host, port), handler, threads, tls, one_of_several)
        self._thread = threading.Thread(target=self._server.serve_forever, name="rest", daemon=True)

    @property
    def port(self) -> int:
        """The port listened on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begins to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Refuses new connections, and waits for requests under way."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Bounded(HTTPServer):
    """Connections wait in a queue of limited length for a thread of a pool."""

    request_queue_size = 128

    def __init__(
        self, address: tuple[str, int], handler: Any, threads: int, tls: ServerTls | None, one_of_several: bool
    ) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        self._pool = futures.ThreadPoolExecutor(threads, thread_name_prefix="rest")
        self._places = threading.BoundedSemaphore(threads + WAITING_CONNECTIONS)
        self._read_until: dict[socket.socket, float] = {}
        self._tls = tls.context() if tls else None
        self._closing = False
        self._one_of_several = one_of_several
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Without the host's name, which HTTPServer asks of the network."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._one_of_several:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def get_request(self) -> tuple[socket.socket, Any]:
        """The handshake is left to the thread that answers."""
        connection, address = super().get_request()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._places.acquire(blocking=False):
            if not self._tls:
                request.setblocking(False)
                with contextlib.suppress(OSError):
                    request.send(_BUSY)
            self.shutdown_request(request)
            return
        self._pool.submit(self._answer, request, client_address)

    def _answer(self, request: socket.socket, client_address: Any) -> None:
        self._read_until[request] = time.monotonic() + READ_SECONDS
        if self._closing:
            _end_reading(request)
        try:
            self.finish_request(request, client_address)
        except OSError:
            # The caller has gone, or was too slow.
            pass
        except Exception:
            _logger.exception("a connection failed")
        finally:
            del self._read_until[request]
            self.shutdown_request(request)
            self._places.release()

    def service_actions(self) -> None:
        """Ends the reading of callers that send byte by byte; a socket's timeout begins anew with each."""
        now = time.monotonic()
        for request, until in list(self._read_until.items()):
            if now > until:
                _end_reading(request)

    def server_close(self) -> None:
        """Answers what has come; who has sent nothing yet is not waited for."""
        super().server_close()
        self._closing = True
        for request in list(self._read_until):
            _end_reading(request)
        self._pool.shutdown()


def _end_reading(connection: socket.socket) -> None:
    """What has arrived can still be read, and be answered. Not by the method of a TLS socket, which ends TLS, too."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(connection, socket.SHUT_RD)


class _Handler(BaseHTTPRequestHandler):
    api: Api
    max_body_bytes: int
    # Of a caller that does not take its answer. Reading ends before, and gets one.
    timeout = 2 * READ_SECONDS
    protocol_version = "HTTP/1.1"
    server_version = "ctr"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,18}", length):
            self._send(411, "application/json", _json({"error": "a body needs its Content-Length"}))
            return
        if int(length) > self.max_body_bytes:
            error = f"the body has {length} bytes, {self.max_body_bytes} are possible"
            self._send(413, "application/json", _json({"error": error}))
            # To close before the caller has sent it all would reset the connection, and take the answer with it.
            left = int(length)
            while left > 0 and (part := self.rfile.read1(min(left, 65536))):
                left -= len(part)
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            error = f"{len(body)} bytes of {length} came within {READ_SECONDS:g} s"
            self._send(408, "application/json", _json({"error": error}))
            return
        self._answer(body)

    def _answer(self, body: bytes) -> None:
        self._send(*self.api.answer(self.command, self.path, body, self.headers.get(REQUEST_ID)))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        # Of few threads none waits for another request of the same caller.
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Nothing: the access log has it."""
