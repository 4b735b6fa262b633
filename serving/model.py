"""One version of a model in memory: a SavedModel that answers TF Serving's PredictRequests.

Messages and the order of checks follow ``tensorflow_serving/servables/tensorflow/predict_util.cc``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import grpc
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2
from tensorflow_serving.apis import predict_pb2

from ctr.models.errors import CtrError
from ctr.serving.signatures import DEFAULT_SIGNATURE
from ctr.serving.version_folders import SAVED_MODEL_FILE
from ctr.serving.warmup import read_warmup

SERVE_TAG: Final = "serve"

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

_logger = logging.getLogger(__name__)


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


class ServedModel:
    """A version, loaded from the directory of its SavedModel. Safe to call from many threads.

    Attributes:
      version: its number.
      signature_defs: signature name -> SignatureDef, as stored.

    Raises:
      OSError, ValueError, tensorflow.errors.OpError: if the directory holds no SavedModel that can be loaded.
    """

    def __init__(self, path: Path, version: int) -> None:
        self.version = version
        self.signature_defs = _signature_defs(path / SAVED_MODEL_FILE)
        self._path = path
        # Signatures do not keep the variables of the loaded object alive.
        self._loaded = tf.saved_model.load(str(path), tags=[SERVE_TAG])

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
        if name not in self._loaded.signatures:
            raise invalid(
                f'Serving signature key "{name}" not found. It must be one of {_names(self._loaded.signatures)}.'
            )
        signature = self.signature_defs[name]
        inputs = _inputs(signature, request)
        aliases = _output_aliases(signature, request)
        outputs = self._run(name, inputs)
        response = predict_pb2.PredictResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = self.version
        response.model_spec.signature_name = name
        for alias in aliases:
            response.outputs[alias].CopyFrom(_tensor_proto(outputs[alias]))
        return response

    def _run(self, name: str, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        try:
            outputs: dict[str, tf.Tensor] = self._loaded.signatures[name](**inputs)
            return outputs
        except tf.errors.OpError as error:
            status = _STATUS_OF_INT.get(error.error_code, grpc.StatusCode.UNKNOWN)
            raise RequestError(status, _words_of_the_graph(error.message)) from error
        except UnicodeDecodeError as error:
            # The graph quotes bytes of the request, which TensorFlow's Python cannot read.
            raise invalid(_words_of_the_graph(error.object.decode(errors="replace"))) from error
        except Exception as error:
            _logger.exception("signature %s of version %d failed", name, self.version)
            raise RequestError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}") from error


def _signature_defs(path: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    saved_model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta_graph in saved_model.meta_graphs:
        if SERVE_TAG in meta_graph.meta_info_def.tags:
            return dict(meta_graph.signature_def)
    raise ValueError(f"{path}: no graph has the tag {SERVE_TAG!r}")


def _inputs(signature: meta_graph_pb2.SignatureDef, request: predict_pb2.PredictRequest) -> dict[str, tf.Tensor]:
    sent, expected = set(request.inputs), set(signature.inputs)
    if sent != expected:
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(expected)} "
            f"len({_names(sent)}) != len({_names(expected)}). "
            f"Sent extra: {_names(sent - expected)}. Missing but required: {_names(expected - sent)}."
        )
    return {alias: _tensor(alias, signature.inputs[alias], request.inputs[alias]) for alias in sorted(sent)}


def _tensor(alias: str, info: meta_graph_pb2.TensorInfo, proto: tensor_pb2.TensorProto) -> tf.Tensor:
    if proto.dtype != info.dtype:
        raise invalid(f'input "{alias}": expects {_dtype_name(info.dtype)} but {_dtype_name(proto.dtype)} is provided')
    sizes = [dim.size for dim in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in sizes):
        raise invalid(f'input "{alias}": the shape {sizes} is not fully defined')
    shape, expected = tf.TensorShape(sizes), tf.TensorShape(info.tensor_shape)
    if not expected.is_compatible_with(shape):
        raise invalid(f'input "{alias}": expects the shape {expected} but {shape} is provided')
    if shape.num_elements() > MAX_TENSOR_ELEMENTS:
        raise invalid(f'input "{alias}": {shape} has more than {MAX_TENSOR_ELEMENTS} elements')
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(info.dtype))
    except tf.errors.InvalidArgumentError as error:
        raise invalid(f"tensor parsing error: {alias}") from error


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


def _tensor_proto(tensor: tf.Tensor) -> tensor_pb2.TensorProto:
    field = _VALUE_FIELDS.get(tensor.dtype)
    if field is None:
        return tf.make_tensor_proto(tensor)
    # TF Serving answers in the typed fields, and clients read `float_val`; make_tensor_proto packs bytes instead.
    proto = tensor_pb2.TensorProto(dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto())
    getattr(proto, field).extend(tensor.numpy().ravel().tolist())
    return proto


def _words_of_the_graph(message: str) -> str:
    """A graph's error as TF Serving sends it: TensorFlow's Python puts the call around it."""
    return message.rpartition("<stack traces unavailable>\n")[2].partition(" [Op:")[0]


def invalid(message: str) -> RequestError:
    """The error of a request that cannot be meant."""
    return RequestError(grpc.StatusCode.INVALID_ARGUMENT, message)


def _names(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _dtype_name(value: int) -> str:
    return types_pb2.DataType.Name(value).removeprefix("DT_").lower() if value in types_pb2.DataType.values() else "?"
