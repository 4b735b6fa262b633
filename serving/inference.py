"""Classify, Regress and MultiInference: requests of ``tf.train.Example`` to a signature with the input ``inputs``.

Messages and the order of checks follow ``classifier.cc``, ``regressor.cc`` and ``multi_inference.cc`` in
``tensorflow_serving/servables/tensorflow/``.
"""

from __future__ import annotations

from typing import Any, Final

import grpc
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from ctr.serving.model import RequestError, ServedModel, invalid
from ctr.serving.signatures import DEFAULT_SIGNATURE

CLASSIFY: Final = "tensorflow/serving/classify"
REGRESS: Final = "tensorflow/serving/regress"

_INPUTS: Final = "inputs"
_CLASSES: Final = "classes"
_SCORES: Final = "scores"
_OUTPUTS: Final = "outputs"


def classify(model: ServedModel, request: classification_pb2.ClassificationRequest) -> Any:
    """Gives each example its classes, with labels (output ``classes``), scores (``scores``), or both.

    Raises:
      RequestError: if the signature is none for this, there is no example, or the graph says so.
    """
    name = _signature_name(request.model_spec, model, "No signature was found with the name: ")
    result = _classifications(model, name, _examples(request.input))
    return classification_pb2.ClassificationResponse(model_spec=_answered(request.model_spec, model), result=result)


def regress(model: ServedModel, request: regression_pb2.RegressionRequest) -> Any:
    """Gives each example a number, the output ``outputs``. Errors as for :func:`classify`."""
    name = _signature_name(request.model_spec, model, "No signature was found with the name: ")
    result = _regressions(model, name, _examples(request.input))
    return regression_pb2.RegressionResponse(model_spec=_answered(request.model_spec, model), result=result)


def multi_inference(model: ServedModel, request: inference_pb2.MultiInferenceRequest) -> Any:
    """Classifies and regresses the same examples, by several signatures of one model. Errors as for both."""
    tasks: dict[str, inference_pb2.InferenceTask] = {}
    for task in request.tasks:
        if not task.model_spec.name:
            raise invalid("Found ModelSpec with an empty model name.")
        if task.model_spec.name != request.tasks[0].model_spec.name:
            raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in tasks:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        tasks[_signature_name(task.model_spec, model, "Requested signature not found in model graph: ")] = task
        if task.method_name not in (CLASSIFY, REGRESS):
            raise RequestError(grpc.StatusCode.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    examples = _examples(request.input)
    response = inference_pb2.MultiInferenceResponse()
    for name, task in tasks.items():
        result = response.results.add(model_spec=_answered(task.model_spec, model))
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classifications(model, name, examples))
        else:
            result.regression_result.CopyFrom(_regressions(model, name, examples))
    return response


def _signature_name(spec: model_pb2.ModelSpec, model: ServedModel, missing: str) -> str:
    name = spec.signature_name or DEFAULT_SIGNATURE
    if name not in model.signature_defs:
        raise invalid(f"{missing}{name}")
    return name


def _answered(spec: model_pb2.ModelSpec, model: ServedModel) -> model_pb2.ModelSpec:
    answered = model_pb2.ModelSpec(name=spec.name, signature_name=spec.signature_name or DEFAULT_SIGNATURE)
    answered.version.value = model.version
    return answered


def _examples(sent: input_pb2.Input) -> tf.Tensor:
    """The serialized examples, [B] string; what an example has itself goes before what the context says."""
    kind = sent.WhichOneof("kind")
    if kind is None or not getattr(sent, kind).examples:
        raise invalid("Input is empty.")
    context = sent.example_list_with_context.context.SerializeToString()
    # Of messages one behind the other, the later one's entries of a map hold.
    return tf.constant([context + example.SerializeToString() for example in getattr(sent, kind).examples])


def _run(model: ServedModel, name: str, examples: tf.Tensor, what: str, outputs: set[str]) -> dict[str, tf.Tensor]:
    signature = model.signature_defs[name]
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if len(signature.outputs) > len(outputs) or not signature.outputs:
        number = "one output Tensor." if len(outputs) == 1 else "one or two output Tensors, found "
        raise invalid(f"Expected {number}{len(signature.outputs) if len(outputs) > 1 else ''}")
    if _INPUTS not in signature.inputs:
        raise invalid(f"No {what} inputs found in SignatureDef: {signature}")
    if not outputs & signature.outputs.keys():
        raise invalid(f"No {what} outputs found in SignatureDef, one of {sorted(outputs)}: {signature}")
    found = model.run(name, {_INPUTS: examples})
    return {alias: found[alias] for alias in outputs & signature.outputs.keys()}


def _classifications(model: ServedModel, name: str, examples: tf.Tensor) -> Any:
    found = _run(model, name, examples, "classification", {_CLASSES, _SCORES})
    number = _number_of_classes(found, examples.shape[0])
    result = classification_pb2.ClassificationResult()
    values = {alias: tensor.numpy().tolist() for alias, tensor in found.items()}
    for row in range(examples.shape[0]):
        classes = result.classifications.add().classes
        for place in range(number):
            each = classes.add()
            if _CLASSES in values:
                # A label is text to protobuf, and bytes to TensorFlow.
                each.label = values[_CLASSES][row][place].decode(errors="replace")
            if _SCORES in values:
                each.score = values[_SCORES][row][place]
    return result


def _number_of_classes(found: dict[str, tf.Tensor], rows: int) -> int:
    for alias, dtype in ((_CLASSES, tf.string), (_SCORES, tf.float32)):
        if alias not in found:
            continue
        tensor = found[alias]
        if tensor.shape.rank != 2:
            raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {tensor.shape}")
        if tensor.dtype != dtype:
            raise invalid(f"Expected {alias} Tensor of {dtype.name}. Got: {tensor.dtype.name}")
        if tensor.shape[0] != rows:
            raise invalid(f"Expected {alias} output batch size of {rows}. Got: {tensor.shape[0]}")
    numbers = [int(tensor.shape[1]) for tensor in found.values()]
    if len(set(numbers)) > 1:
        raise invalid(f"Tensors class and score should match in dim_size(1). Got {numbers[0]} vs. {numbers[1]}")
    return numbers[0]


def _regressions(model: ServedModel, name: str, examples: tf.Tensor) -> Any:
    tensor = _run(model, name, examples, "regression", {_OUTPUTS})[_OUTPUTS]
    if tensor.shape.rank != 1 and (tensor.shape.rank != 2 or tensor.shape[1] != 1):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {tensor.shape}"
        )
    if tensor.shape[0] != examples.shape[0]:
        raise invalid(f"Input batch size did not match output batch size: {examples.shape[0]} vs. {tensor.shape[0]}")
    if tensor.dtype != tf.float32:
        raise invalid(f"Expected output Tensor of float32.  Got: {tensor.dtype.name}")
    result = regression_pb2.RegressionResult()
    for value in tensor.numpy().ravel().tolist():
        result.regressions.add(value=value)
    return result
