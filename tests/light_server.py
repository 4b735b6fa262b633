"""A gRPC server of ``Predict`` and ``GetModelMetadata`` without TensorFlow: for what is the client's alone.

Its logit of a candidate is the number of events of the same category, as that of ``tests/integration/serving``.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any

import grpc
import numpy as np

from ctr.serving.messages import (
    GET_MODEL_METADATA,
    PREDICT,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    PredictRequest,
    PredictResponse,
    SignatureDefMap,
)
from ctr.serving.signatures import DECLARED, RANK_SIGNATURE, SIGNATURE_DEF_FIELD


class LightServer:
    """Counts what it is asked; ``before`` is called with each request's number, from 1, and its context. The model has
    the signature ``declared_features`` where ``declared``, their rows as JSON, is given."""

    def __init__(
        self, port: int = 0, before: Callable[[int, Any], object] = lambda *_: None, declared: bytes | None = None
    ) -> None:
        self._before = before
        self._declared = declared
        self._lock = threading.Lock()
        self.requests = self.most_at_a_time = self._now = 0
        self.peers: set[str] = set()
        self.labels: set[str] = set()
        self._server = grpc.server(futures.ThreadPoolExecutor(16))
        for path, answer, request, response in (
            (PREDICT, self._predict, PredictRequest, PredictResponse),
            (GET_MODEL_METADATA, self._metadata, GetModelMetadataRequest, GetModelMetadataResponse),
        ):
            service, method = path.strip("/").split("/")
            handler = grpc.unary_unary_rpc_method_handler(answer, request.FromString, response.SerializeToString)
            self._server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self._server.start()

    def stop(self) -> None:
        """Refuses all from now on."""
        self._server.stop(None).wait()

    def _metadata(self, request: Any, _: Any) -> Any:
        self.labels.add(request.model_spec.version_label)
        signatures = SignatureDefMap()
        for name in (RANK_SIGNATURE, *([] if self._declared is None else [DECLARED])):
            signatures.signature_def[name].SetInParent()
        response = GetModelMetadataResponse()
        (field,) = request.metadata_field
        assert field == SIGNATURE_DEF_FIELD
        response.metadata[field].Pack(signatures)
        return response

    def _predict(self, request: Any, context: Any) -> Any:
        if request.model_spec.signature_name == DECLARED and self._declared is not None:
            response = PredictResponse()
            response.outputs[DECLARED].string_val.append(self._declared)
            return response
        with self._lock:
            self.requests += 1
            number = self.requests
            self._now += 1
            self.most_at_a_time = max(self.most_at_a_time, self._now)
            self.peers.add(context.peer())
            self.labels.add(request.model_spec.version_label)
        try:
            self._before(number, context)
            return _answer(request)
        finally:
            with self._lock:
                self._now -= 1


def _answer(request: Any) -> Any:
    inputs = {
        name: np.frombuffer(tensor.tensor_content, "<i8").reshape([dim.size for dim in tensor.tensor_shape.dim])
        for name, tensor in request.inputs.items()
    }
    events, candidates = inputs["history_category_id"][:, None, :], inputs["candidate_category_id"][:, :, None]
    logit = ((events == candidates) & (events > 0)).sum(axis=2).astype("<f4")
    response = PredictResponse()
    response.model_spec.version.value = 3
    for name, values in (("logit", logit), ("probability", 1 / (1 + np.exp(-logit)))):
        tensor = response.outputs[name]
        tensor.dtype = 1
        for size in values.shape:
            tensor.tensor_shape.dim.add(size=size)
        tensor.float_val.extend(values.ravel().tolist())
    return response


@contextlib.contextmanager
def light_server(*arguments: Any, **options: Any) -> Iterator[LightServer]:
    """A server, stopped at the end."""
    server = LightServer(*arguments, **options)
    try:
        yield server
    finally:
        server.stop()
