"""TF Serving's JSON: of Predict in rows (``instances``, ``predictions``) and columns (``inputs``, ``outputs``), and of
Classify and Regress, whose ``examples`` are objects of features."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from ctr.models.arrays import Array
from ctr.serving.model import ServedModel, invalid
from ctr.serving.signatures import DEFAULT_SIGNATURE

_INSTANCES: Final = "instances"
_INPUTS: Final = "inputs"
_EXAMPLES: Final = "examples"
_CONTEXT: Final = "context"
_SIGNATURE: Final = "signature_name"
_BASE64: Final = "b64"
_KINDS: Final = {
    tf.float32: "iuf",
    tf.float64: "iuf",
    tf.int32: "i",
    tf.int64: "i",
    tf.bool: "b",
}
"""What numpy makes of the JSON values that are possible for a dtype."""
_WORDS: Final = {
    "b": "true or false",
    "f": "numbers with a point",
    "i": "integers",
    "u": "integers beyond int64",
    "U": "strings",
}


def fill_predict(body: bytes, request: predict_pb2.PredictRequest, model: ServedModel) -> bool:
    """Puts the signature and the inputs of a JSON body into a request; whether they are in the row format.

    Raises:
      RequestError: INVALID_ARGUMENT that names what is wrong where.
    """
    document = _document(body, {_INSTANCES, _INPUTS})
    if (_INSTANCES in document) == (_INPUTS in document):
        raise invalid("the JSON must have either 'instances' or 'inputs'")
    name = document.get(_SIGNATURE, DEFAULT_SIGNATURE)
    if name not in model.signature_defs:
        known = ", ".join(sorted(model.signature_defs))
        raise invalid(f'Serving signature name: "{name}" not found in signature def; there are {known}')
    expected = model.signature_defs[name].inputs
    by_row = _INSTANCES in document
    if by_row:
        inputs = _stacked(document[_INSTANCES], expected)
    else:
        inputs = document[_INPUTS]
        if len(expected) == 1 and not _is_named(inputs):
            inputs = {next(iter(expected)): inputs}
        if not isinstance(inputs, dict):
            raise invalid(f"inputs: the signature has several, expected an object of {sorted(expected)}")
    request.model_spec.signature_name = name
    for alias, values in inputs.items():
        if alias not in expected:
            raise invalid(f"input {alias!r}: the signature has none of this name, it has {sorted(expected)}")
        array = _array(values, tf.as_dtype(expected[alias].dtype), alias)
        request.inputs[alias].CopyFrom(tf.make_tensor_proto(array, expected[alias].dtype))
    return by_row


def predict_json(response: predict_pb2.PredictResponse, by_row: bool) -> dict[str, Any]:
    """The answer, in the format of its request.

    Raises:
      RequestError: INVALID_ARGUMENT if outputs differ in their number of rows, and so have no row format.
    """
    arrays = {alias: tf.make_ndarray(proto) for alias, proto in sorted(response.outputs.items())}
    values = {alias: _values(array) for alias, array in arrays.items()}
    if not by_row:
        return {"outputs": next(iter(values.values())) if len(values) == 1 else values}
    rows = {alias: array.shape[0] if array.ndim else None for alias, array in arrays.items()}
    if None in rows.values() or len(set(rows.values())) > 1:
        raise invalid(f"the outputs have inconsistent batch sizes, {rows}: ask with 'inputs' instead of 'instances'")
    if len(values) == 1:
        return {"predictions": next(iter(values.values()))}
    return {"predictions": [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]}


def fill_examples(
    body: bytes, request: classification_pb2.ClassificationRequest | regression_pb2.RegressionRequest
) -> None:
    """Puts the signature and the examples of a JSON body into a request of a model.

    Raises:
      RequestError: INVALID_ARGUMENT that names what is wrong where.
    """
    document = _document(body, {_EXAMPLES, _CONTEXT})
    request.model_spec.signature_name = document.get(_SIGNATURE, "")
    examples = document.get(_EXAMPLES)
    if not isinstance(examples, list) or not examples:
        raise invalid("examples: must be a list with at least one example")
    if _CONTEXT in document:
        into = request.input.example_list_with_context
        _fill(into.context, document[_CONTEXT], _CONTEXT)
    else:
        into = request.input.example_list
    for index, example in enumerate(examples):
        _fill(into.examples.add(), example, f"examples[{index}]")


def classify_json(response: classification_pb2.ClassificationResponse) -> dict[str, Any]:
    """The labels and scores of each example."""
    return {
        "results": [
            [[each.label, _short(each.score)] for each in row.classes] for row in response.result.classifications
        ]
    }


def regress_json(response: regression_pb2.RegressionResponse) -> dict[str, Any]:
    """The number of each example."""
    return {"results": [_short(each.value) for each in response.result.regressions]}


def _short(value: float) -> float:
    return float(_values(np.float32(value).reshape(1))[0])


def _fill(example: tf.train.Example, features: Any, where: str) -> None:
    if not isinstance(features, dict):
        raise invalid(f"{where}: must be an object of features, found {type(features).__name__}")
    for name, content in features.items():
        feature = example.features.feature[name]
        for value in content if isinstance(content, list) else [content]:
            kind, stored = _feature_value(value, f"{where}: feature {name!r}")
            if feature.WhichOneof("kind") not in (None, kind):
                raise invalid(f"{where}: feature {name!r}: Unexpected element type: has values of several kinds")
            getattr(feature, kind).value.append(stored)


def _feature_value(value: Any, where: str) -> tuple[str, Any]:
    """The list of a feature that a value goes to, and as what."""
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise invalid(f"{where}: {value} is out of the range of int64")
        return "int64_list", int(value)
    if isinstance(value, float):
        return "float_list", value
    if isinstance(value, str) or (isinstance(value, dict) and value.keys() == {_BASE64}):
        return "bytes_list", _bytes_of(value, where)
    raise invalid(f'{where}: a value must be a number, true, false, a string or {{"b64": "..."}}')


def _document(body: bytes, keys: set[str]) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(document, dict):
        raise invalid("the JSON must be an object")
    if unknown := sorted(document.keys() - {*keys, _SIGNATURE}):
        raise invalid(f"unknown keys {unknown}: there are {sorted({*keys, _SIGNATURE})}")
    if not isinstance(document.get(_SIGNATURE, ""), str):
        raise invalid("signature_name: must be a string")
    return document


def _is_named(value: Any) -> bool:
    """Whether it is an object of inputs, and not of bytes."""
    return isinstance(value, dict) and value.keys() != {_BASE64}


def _stacked(instances: Any, expected: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, list[Any]]:
    if not isinstance(instances, list) or not instances:
        raise invalid("instances: must be a list with at least one instance")
    if len(expected) == 1 and not any(map(_is_named, instances)):
        return {next(iter(expected)): instances}
    for index, instance in enumerate(instances):
        if not isinstance(instance, dict) or instance.keys() != expected.keys():
            raise invalid(f"instances[{index}]: must be an object with the inputs {sorted(expected)}")
    return {alias: [instance[alias] for instance in instances] for alias in expected}


def _array(values: Any, dtype: tf.DType, alias: str) -> Array:
    if dtype == tf.string:
        return _strings(values, alias)
    if dtype not in _KINDS:
        raise invalid(f"input {alias!r}: {dtype.name} has no JSON form here")
    try:
        array = np.array(values)
    except (ValueError, OverflowError) as error:
        raise invalid(f"input {alias!r}: the lists are of unequal lengths or too deep") from error
    if array.size and array.dtype.kind not in _KINDS[dtype]:
        raise invalid(
            f"input {alias!r}: every value must be of {dtype.name}, found {_WORDS.get(array.dtype.kind, 'others')}"
        )
    limits = np.iinfo(np.int32)
    if dtype == tf.int32 and array.size and not limits.min <= array.min() <= array.max() <= limits.max:
        raise invalid(f"input {alias!r}: a value is out of the range of int32")
    return array.astype(dtype.as_numpy_dtype)


def _strings(values: Any, alias: str) -> Array:
    array = np.array(_bytes_of(values, alias), object)
    if not all(isinstance(value, bytes) for value in array.flat):
        raise invalid(f"input {alias!r}: the lists are of unequal lengths")
    return array


def _bytes_of(value: Any, alias: str) -> Any:
    if isinstance(value, list):
        return [_bytes_of(each, alias) for each in value]
    try:
        if isinstance(value, str):
            return value.encode()
        if isinstance(value, dict) and value.keys() == {_BASE64}:
            return base64.b64decode(value[_BASE64], validate=True)
    except (ValueError, TypeError, binascii.Error) as error:
        raise invalid(f"input {alias!r}: Unable to base64 decode: {error}") from error
    raise invalid(f'input {alias!r}: every value must be a string or {{"b64": "..."}}, found {type(value).__name__}')


def _values(array: Array) -> Any:
    if array.dtype == np.float32:
        # As short as a float32 needs, not as the float64 of the same value.
        return array.astype(str).astype(np.float64).tolist()
    return _text(array.tolist()) if array.dtype == object else array.tolist()


def _text(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_text(each) for each in value]
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {_BASE64: base64.b64encode(value).decode()}
