"""TF Serving's messages without TensorFlow, whose import takes seconds: all that a client sends and gets.

``tf_serving.desc`` beside this file holds their descriptors, those of the older stack.
``tests/unit/serving/test_messages.py`` compares them with the installed packages, and writes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from ctr.models.arrays import Array, Int64Array

DESCRIPTORS: Final = Path(__file__).with_name("tf_serving.desc")
"""A serialized ``FileDescriptorSet``; a file stands behind those that it imports."""
PREDICT: Final = "/tensorflow.serving.PredictionService/Predict"
GET_MODEL_METADATA: Final = "/tensorflow.serving.PredictionService/GetModelMetadata"
GET_MODEL_STATUS: Final = "/tensorflow.serving.ModelService/GetModelStatus"
RELOAD_CONFIG: Final = "/tensorflow.serving.ModelService/HandleReloadConfigRequest"
"""The methods, as gRPC names them."""

# Not the default pool: in a process with TensorFlow the packages' own messages of the same names lie there.
POOL: Final = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file:
    POOL.AddSerializedFile(_file.SerializeToString())
# Without GetMessageClass: protobuf before 4.22, which goes with tfx-1.16.
_class_of: Final = (
    getattr(message_factory, "GetMessageClass", None) or message_factory.MessageFactory(POOL).GetPrototype
)

PredictRequest: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.PredictRequest"))
PredictResponse: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.PredictResponse"))
GetModelMetadataRequest: Final[Any] = _class_of(
    POOL.FindMessageTypeByName("tensorflow.serving.GetModelMetadataRequest")
)
GetModelMetadataResponse: Final[Any] = _class_of(
    POOL.FindMessageTypeByName("tensorflow.serving.GetModelMetadataResponse")
)
SignatureDefMap: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.SignatureDefMap"))
GetModelStatusRequest: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.GetModelStatusRequest"))
GetModelStatusResponse: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.GetModelStatusResponse"))
ReloadConfigRequest: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.ReloadConfigRequest"))
ReloadConfigResponse: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.serving.ReloadConfigResponse"))
Example: Final[Any] = _class_of(POOL.FindMessageTypeByName("tensorflow.Example"))

# Of the enum tensorflow.DataType.
_FLOAT, _DOUBLE, _STRING, _INT64 = 1, 2, 7, 9


def set_int64(tensor: Message, values: Int64Array) -> None:
    """Fills an empty ``TensorProto``; the array may have any shape."""
    tensor.dtype = _INT64
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = values.astype("<i8").tobytes()


def set_float32(tensor: Message, values: Array) -> None:
    """Likewise."""
    tensor.dtype = _FLOAT
    for size in values.shape:
        tensor.tensor_shape.dim.add(size=size)
    tensor.tensor_content = values.astype("<f4").tobytes()


def set_strings(tensor: Message, values: Sequence[bytes]) -> None:
    """Fills an empty ``TensorProto`` with a vector."""
    tensor.dtype = _STRING
    tensor.tensor_shape.dim.add(size=len(values))
    tensor.string_val.extend(values)


def shape_of(tensor: Message) -> tuple[int, ...]:
    """What a ``TensorProto`` says of its shape."""
    return tuple(dimension.size for dimension in tensor.tensor_shape.dim)


def floats(tensor: Message) -> Array:
    """The values of a ``TensorProto``, float32 or float64 as it has them, in its shape.

    Raises:
      ValueError: if it holds no floats, or not as many as its shape says.
    """
    fields = {_FLOAT: ("<f4", tensor.float_val), _DOUBLE: ("<f8", tensor.double_val)}
    if tensor.dtype not in fields:
        raise ValueError(f"of the DataType {tensor.dtype}, expected {_FLOAT} (DT_FLOAT)")
    dtype, typed = fields[tensor.dtype]
    shape = shape_of(tensor)
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, dtype).reshape(shape)
    if not typed:
        return np.zeros(shape, dtype)
    # A value that repeats to the end need not be sent again.
    return np.pad(np.fromiter(typed, dtype), (0, math.prod(shape) - len(typed)), "edge").reshape(shape)
