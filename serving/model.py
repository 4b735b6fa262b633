"""One version of a model in memory: a SavedModel that answers TF Serving's PredictRequests.

Messages and the order of checks follow ``tensorflow_serving/servables/tensorflow/predict_util.cc``.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import predict_pb2

from ctr.models.arrays import Array
from ctr.models.errors import CtrError
from ctr.serving.session import Runner, Session
from ctr.serving.signatures import CANDIDATE, DEFAULT_SIGNATURE, HISTORY
from ctr.serving.version_folders import SAVED_MODEL_FILE
from ctr.serving.warmup import read_warmup

SERVE_TAG: Final = "serve"

_VARIABLES: Final = os.path.join("variables", "variables.index")
_INTERNAL: Final = "__saved_model_"
"""How the names of signatures begin that are the loader's own."""
MAX_ERROR_LENGTH: Final = 1024
"""TF Serving cuts its messages here: gRPC carries them in headers, which are limited to 8 KiB."""
MAX_TENSOR_ELEMENTS: Final = 2**24
"""A TensorProto may claim any shape and carry one value; this bounds what such a request allocates."""

_STATUS_OF_INT: Final = {status.value[0]: status for status in grpc.StatusCode}
_VALUE_FIELDS: Final = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
}

_FIXED_SIZE: Final = frozenset(_VALUE_FIELDS) - {tf.bool}
"""Any bytes are values of these; of a bool only two are."""

_PADDED: Final = frozenset({types_pb2.DT_INT64, types_pb2.DT_FLOAT})
"""What can be padded with 0."""

_logger = logging.getLogger(__name__)


Run: TypeAlias = Callable[[str, Mapping[str, Array]], dict[str, Array]]
"""Runs a signature: arrays of its inputs -> arrays of its outputs."""


class RequestError(CtrError):
    """A request that gets an error for an answer.

    Attributes:
      code: the gRPC status.
      message: what was wrong, naming the field.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message[:MAX_ERROR_LENGTH]


@dataclass(frozen=True)
class _Input:
    """What a signature says of an input."""

    dtype: int
    shape: tuple[int | None, ...] | None
    """None: any rank; None in it: any size."""
    of_bytes: np.dtype[Any] | None
    """Where the values' bytes can be taken as they are."""
    array_dtype: np.dtype[Any]

    @classmethod
    def of(cls, info: meta_graph_pb2.TensorInfo) -> _Input:
        shape = tf.TensorShape(info.tensor_shape)
        dtype = tf.as_dtype(info.dtype)
        of_bytes = np.dtype(dtype.as_numpy_dtype).newbyteorder("<") if dtype in _FIXED_SIZE else None
        sizes = None if shape.rank is None else tuple(shape.as_list())
        return cls(info.dtype, sizes, of_bytes, np.dtype(dtype.as_numpy_dtype))

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor may have this shape."""
        return self.shape is None or (
            len(shape) == len(self.shape)
            and all(size in (None, given) for size, given in zip(self.shape, shape, strict=True))
        )


class ServedModel:
    """A version, loaded from the directory of its SavedModel. Safe to call from many threads.

    Args:
      path: the directory.
      version: its number.
      batched: makes of what runs a signature what runs several requests for it together; None: each runs alone.

    Attributes:
      version: its number.
      signature_defs: signature name -> SignatureDef, as stored.

    Raises:
      OSError, ValueError, tensorflow.errors.OpError: if the directory holds no SavedModel that can be loaded.
    """

    def __init__(self, path: Path, version: int, batched: Callable[[Run], Run] | None = None) -> None:
        self.version = version
        graph = _graph(path)
        self.signature_defs = dict(graph.signature_def)
        self._path = path
        session = Session(path, [SERVE_TAG])
        self._runners = {
            name: session.runner(signature)
            for name, signature in self.signature_defs.items()
            if not name.startswith(_INTERNAL)
        }
        # Nothing here may hold the version itself: it is to be freed when the last of its requests is answered, and not
        # when garbage is looked for.
        self._run = functools.partial(_run, self._runners, version)
        self._together = batched(self._run) if batched else None
        self._can_be_together = _that_score_candidates(self.signature_defs)
        self._inputs = {
            name: {alias: _Input.of(info) for alias, info in sorted(signature.inputs.items())}
            for name, signature in self.signature_defs.items()
        }

    def warm_up(self) -> int:
        """Runs the version's warmup requests; returns their number.

        Raises:
          RequestError: if the model cannot answer one.
          ValueError: if the file holds other records.
        """
        requests = list(read_warmup(self._path))
        for request in requests:
            self.predict(request)
        return len(requests)

    def predict(self, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
        """Runs the request's signature (``serving_default`` if it names none).

        Raises:
          RequestError: INVALID_ARGUMENT for an unknown signature, for inputs or outputs that do not fit it, and
            where the graph says so; otherwise the graph's own status, or INTERNAL.
        """
        name = request.model_spec.signature_name or DEFAULT_SIGNATURE
        if name not in self._runners:
            raise invalid(f'Serving signature key "{name}" not found. It must be one of {_names(self._runners)}.')
        signature = self.signature_defs[name]
        inputs = _inputs(self._inputs[name], request)
        aliases = _output_aliases(signature, request)
        run = self._together if self._together and name in self._can_be_together else self.run_arrays
        outputs = run(name, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = name
        for alias in aliases:
            _fill(response.outputs[alias], outputs[alias], signature.outputs[alias].dtype)
        return response

    def run(self, name: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Runs a signature: the tensors of its inputs -> those of its outputs. Errors as for :meth:`predict`."""
        outputs = self.run_arrays(name, {alias: tensor.numpy() for alias, tensor in inputs.items()})
        return {alias: tf.constant(array) for alias, array in outputs.items()}

    def run_arrays(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The same with arrays; strings are arrays of bytes objects."""
        return self._run(name, inputs)


def _run(runners: Mapping[str, Runner], version: int, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
    try:
        return runners[name](inputs)
    except tf.errors.OpError as error:
        status = _STATUS_OF_INT.get(error.error_code, grpc.StatusCode.UNKNOWN)
        raise RequestError(status, error.message) from error
    except Exception as error:
        _logger.exception("signature %s of version %d failed", name, version)
        raise RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}") from error


def _graph(path: Path) -> meta_graph_pb2.MetaGraphDef:
    file = path / SAVED_MODEL_FILE
    saved_model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for graph in saved_model.meta_graphs:
        if SERVE_TAG in graph.meta_info_def.tags:
            # The loader takes this for a model without variables, and only requests would fail.
            if any(node.op == "VarHandleOp" for node in graph.graph_def.node) and not (path / _VARIABLES).is_file():
                raise FileNotFoundError(f"{path / _VARIABLES}: no such file, and the graph has variables")
            return graph
    raise ValueError(f"{file}: no graph has the tag {SERVE_TAG!r}")


def _that_score_candidates(signatures: Mapping[str, meta_graph_pb2.SignatureDef]) -> set[str]:
    """The names of those like ``rank``, and of those that give the same outputs to serialized Examples."""
    of_features = {name for name, signature in signatures.items() if _ranks(signature)}
    outputs = [signatures[name].outputs.keys() for name in of_features]
    return of_features | {
        name
        for name, signature in signatures.items()
        if [(info.dtype, _sizes(info)) for info in signature.inputs.values()] == [(types_pb2.DT_STRING, [-1])]
        and all(_is_scores(info) for info in signature.outputs.values())
        and signature.outputs.keys() in outputs
    }


def _ranks(signature: meta_graph_pb2.SignatureDef) -> bool:
    """Whether it is one like ``rank``: features [B, T] and [B, N], and others with B rows -> scores [B, N]."""
    lists = [info for alias, info in signature.inputs.items() if alias.startswith((HISTORY, CANDIDATE))]
    return (
        all(any(alias.startswith(prefix) for alias in signature.inputs) for prefix in (HISTORY, CANDIDATE))
        and all(_sizes(info) == [-1, -1] for info in lists)
        and all(_sizes(info)[:1] == [-1] and info.dtype in _PADDED for info in signature.inputs.values())
        and all(_is_scores(info) for info in signature.outputs.values())
    )


def _is_scores(info: meta_graph_pb2.TensorInfo) -> bool:
    return info.dtype == types_pb2.DT_FLOAT and _sizes(info) == [-1, -1]


def _sizes(info: meta_graph_pb2.TensorInfo) -> list[int]:
    return [dim.size for dim in info.tensor_shape.dim]


def _inputs(expected: Mapping[str, _Input], request: predict_pb2.PredictRequest) -> dict[str, Array]:
    sent = set(request.inputs)
    if sent != expected.keys():
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_names(sent)}) != len({_names(expected)}). "
            f"Sent extra: {_names(sent - expected.keys())}. Missing but required: {_names(expected.keys() - sent)}."
        )
    return {alias: _tensor(alias, of, request.inputs[alias]) for alias, of in expected.items()}


def _tensor(alias: str, of: _Input, proto: tensor_pb2.TensorProto) -> Array:
    if proto.dtype != of.dtype:
        raise invalid(f'input "{alias}": expects {_dtype_name(of.dtype)} but {_dtype_name(proto.dtype)} is provided')
    shape = _shape_of(proto)
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise invalid(f'input "{alias}": the shape {list(shape)} is not fully defined')
    if not of.allows(shape):
        raise invalid(f'input "{alias}": expects the shape {of.shape} but {shape} is provided')
    elements = math.prod(shape)
    if elements > MAX_TENSOR_ELEMENTS:
        raise invalid(f'input "{alias}": {shape} has more than {MAX_TENSOR_ELEMENTS} elements')
    # The bytes as they came; TensorFlow's own parser, which takes all other forms, is ten times as slow.
    if of.of_bytes is not None and len(proto.tensor_content) == elements * of.of_bytes.itemsize:
        return np.frombuffer(proto.tensor_content, of.of_bytes).reshape(shape)
    if of.dtype == tf.string.as_datatype_enum and len(proto.string_val) == elements:
        texts = np.empty(elements, object)
        texts[:] = proto.string_val
        return texts.reshape(shape)
    try:
        # A scalar of strings would be bytes.
        return np.asarray(tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(of.dtype)).numpy(), of.array_dtype)
    except tf.errors.InvalidArgumentError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _shape_of(proto: tensor_pb2.TensorProto) -> tuple[int, ...]:
    dims = proto.tensor_shape.dim
    # By index: protobuf's iterator takes longer than all the rest of a small tensor.
    return tuple([dims[index].size for index in range(len(dims))])


def _output_aliases(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> list[str]:
    aliases = list(request.output_filter)
    for index, alias in enumerate(aliases):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {_names(signature.outputs)}."
            )
        if alias in aliases[:index]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return aliases or sorted(signature.outputs)


def _fill(proto: tensor_pb2.TensorProto, array: Array, dtype: int) -> None:
    field = _VALUE_FIELDS.get(tf.as_dtype(dtype))
    if field is None:
        proto.CopyFrom(tf.make_tensor_proto(array, dtype))
        return
    # TF Serving answers in the typed fields, and clients read `float_val`; make_tensor_proto packs bytes instead.
    proto.dtype = dtype
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, field).extend(array.ravel().tolist())


def invalid(message: str) -> RequestError:
    """The error of a request that cannot be meant."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _names(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _dtype_name(value: int) -> str:
    return types_pb2.DataType.Name(value).removeprefix("DT_").lower() if value in types_pb2.DataType.values() else "?"
