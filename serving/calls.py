"""One request from its bytes to its answer: every failure gets a status and words, is counted, and may be logged."""

from __future__ import annotations

import logging
import re
import time
import uuid
from collections.abc import Callable, Collection
from typing import Any, Final

import grpc

from ctr.serving.metrics import Metrics
from ctr.serving.model import RequestError
from ctr.serving.request_log import RequestLog

PREDICT: Final = "Predict"
INFERENCES: Final = frozenset({PREDICT, "Classify", "Regress", "MultiInference"})
"""The methods that are counted."""
REQUEST_ID: Final = "x-request-id"
"""The name, in gRPC's metadata and HTTP's headers, by which a caller may say what the access log calls its request."""

_USABLE_ID: Final = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)

_logger = logging.getLogger(__name__)
_access = logging.getLogger("ctr.serving.access")


class Calls:
    """Answers requests.

    Args:
      metrics: what counts them.
      names: of the models that are served now; a request for any other counts for the model ``""``, so that strangers
        cannot fill the memory with names.
      access_log: whether each answer gets a line of the logger ``ctr.serving.access``, at INFO.
      request_log: what keeps some of the requests that were answered, if any does.
    """

    def __init__(
        self,
        metrics: Metrics,
        names: Callable[[], Collection[str]],
        access_log: bool,
        request_log: RequestLog | None = None,
    ) -> None:
        self._metrics = metrics
        self._names = names
        self._access_log = access_log
        self._request_log = request_log

    def answer(
        self,
        method: str,
        entrypoint: str,
        request_id: str | None,
        parse: Callable[[], Any],
        answer: Callable[[Any], Any],
    ) -> Any:
        """Answers one request.

        Args:
          method: as gRPC names it.
          entrypoint: ``GRPC`` or ``REST``.
          request_id: of the caller, if it gave one.
          parse: makes a message of what came.
          answer: answers that message.

        Raises:
          RequestError: whatever went wrong.
        """
        start = time.perf_counter()
        request = response = refused = None
        try:
            request = parse()
            response = answer(request)
        except RequestError as error:
            refused = error
        except Exception as error:
            _logger.exception("%s failed", method)
            refused = RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        seconds = time.perf_counter() - start
        code = refused.code if refused else grpc.StatusCode.OK
        model = _spec(request).name if request is not None else ""
        if method in INFERENCES:
            self._metrics.request(model if model in self._names() else "", method, entrypoint, code, seconds)
        if self._access_log:
            _access.info(
                "%s %s id=%s model=%s version=%s status=%s ms=%.2f",
                entrypoint,
                method,
                request_id if request_id and _USABLE_ID.fullmatch(request_id) else uuid.uuid4().hex,
                model[:128].encode("unicode_escape").decode() or "-",
                _spec(response).version.value or "-" if response is not None else "-",
                code.name,
                seconds * 1000,
            )
        try:
            if refused:
                raise refused
        finally:
            # Its traceback holds this frame, and so the version that answered, until garbage is looked for.
            del refused
        if self._request_log is not None and method == PREDICT:
            self._request_log.offer(request, response)
        return response


def _spec(message: Any) -> Any:
    """The ModelSpec of a request or an answer; of several, the first."""
    for field in ("tasks", "results"):
        if parts := getattr(message, field, None):
            message = parts[0]
    return getattr(message, "model_spec", None) or _NO_SPEC


class _NoVersion:
    value = 0


class _NoSpec:
    name = ""
    version = _NoVersion


_NO_SPEC: Final = _NoSpec
