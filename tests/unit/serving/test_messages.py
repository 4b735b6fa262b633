"""The client's messages are TensorFlow's and TF Serving's.

Run as a program, on the older stack, this file writes their descriptors anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from tensorflow.core.example import example_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_management_pb2, predict_pb2

from ctr.serving.messages import DESCRIPTORS, PredictResponse, floats

META_GRAPH = "tensorflow/core/protobuf/meta_graph.proto"
SIGNATURES = ("TensorInfo", "SignatureDef")
IMPORTED_BY_SIGNATURES = ("struct", "tensor", "tensor_shape", "types")


def installed() -> FileDescriptorSet:
    """The packages' files, each behind those that it imports; of a graph its signatures alone."""
    found: dict[str, FileDescriptorProto] = {}

    def add(file: Any) -> None:
        proto = FileDescriptorProto.FromString(file.serialized_pb)
        if file.name == META_GRAPH:
            messages = [message for message in proto.message_type if message.name in SIGNATURES]
            imports = [name for name in proto.dependency if Path(name).stem in IMPORTED_BY_SIGNATURES]
            del proto.message_type[:], proto.dependency[:]
            proto.message_type.extend(messages)
            proto.dependency.extend(imports)
        for imported in file.dependencies:
            if imported.name in proto.dependency:
                add(imported)
        found[file.name] = proto

    for module in (predict_pb2, get_model_metadata_pb2, get_model_status_pb2, model_management_pb2):
        add(module.DESCRIPTOR)
    add(example_pb2.DESCRIPTOR)
    return FileDescriptorSet(file=found.values())


def facts(files: FileDescriptorSet) -> dict[str, Any]:
    """Full name -> what the wire knows of each field and of each enum's value."""

    def of(parts: Any, package: str) -> Iterator[tuple[str, Any]]:
        for enum in parts.enum_type:
            yield from ((f"{package}.{enum.name}.{value.name}", value.number) for value in enum.value)
        for message in parts.message_type if isinstance(parts, FileDescriptorProto) else parts.nested_type:
            for field in message.field:
                kind = (field.number, field.type, field.label, field.type_name)
                yield f"{package}.{message.name}.{field.name}", kind
            yield from of(message, f"{package}.{message.name}")

    return dict(fact for file in files.file for fact in of(file, file.package))


def test_the_shipped_descriptors_are_those_of_the_packages() -> None:
    shipped, theirs = facts(FileDescriptorSet.FromString(DESCRIPTORS.read_bytes())), facts(installed())
    assert {name: theirs.get(name) for name in shipped} == shipped, f"write them with: python {__file__}"
    assert len(shipped) > 100
    assert "tensorflow.serving.PredictRequest.InputsEntry.value" in shipped


def tensor(**fields: Any) -> Any:
    """As it reaches the client."""
    response = predict_pb2.PredictResponse()
    if "like" in fields:
        response.outputs["x"].CopyFrom(tf.make_tensor_proto(fields.pop("like")))
    for name, values in fields.items():
        getattr(response.outputs["x"], name).extend(values)
    return PredictResponse.FromString(response.SerializeToString()).outputs["x"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (1, 1), (2, 3), (2, 0)])
def test_floats_of_every_shape_are_read(dtype: Any, shape: tuple[int, ...]) -> None:
    values = np.linspace(-1, 1, int(np.prod(shape)), dtype=dtype).reshape(shape)
    found = floats(tensor(like=values))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("sent", [[0.5], [1, 2, 3, 4], [1, 2], []])
def test_typed_values_are_read_as_tensorflow_reads_them(sent: list[float]) -> None:
    proto = tensor(like=np.empty((0,), np.float32), float_val=sent)
    del proto.tensor_shape.dim[:]
    for size in (2, 2):
        proto.tensor_shape.dim.add(size=size)
    np.testing.assert_array_equal(floats(proto), tf.make_ndarray(proto))


@pytest.mark.parametrize(
    ("proto", "says"),
    [
        (tensor(like=np.ones(2, np.int64)), r"DataType 9, expected 1 \(DT_FLOAT\)"),
        (tensor(like=np.ones(1, np.float32), float_val=[2, 3]), "negative"),
    ],
)
def test_what_are_no_such_floats_is_refused(proto: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        floats(proto)


if __name__ == "__main__":
    # Not where the package is imported from, which may be another checkout.
    (Path(__file__).parents[3] / "serving" / DESCRIPTORS.name).write_bytes(
        installed().SerializeToString(deterministic=True)
    )
