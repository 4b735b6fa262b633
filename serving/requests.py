"""PredictRequests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from google.protobuf.message import Message

from ctr.models.arrays import Array
from ctr.models.impression import FEATURES, PADDING_ID, REQUEST_FEATURES
from ctr.serving.impressions import Impression
from ctr.serving.messages import (
    Example,
    GetModelMetadataRequest,
    PredictRequest,
    set_float32,
    set_int64,
    set_strings,
)
from ctr.serving.signatures import DECLARED, DEFAULT_SIGNATURE, EXAMPLES, RANK_SIGNATURE, SIGNATURE_DEF_FIELD


def rank_request(impressions: Sequence[Impression], model_name: str, version_label: str = "") -> Message:
    """One request for a batch of impressions: the one place where they become padded tensors.

    Args:
      impressions: B >= 1 impressions. Histories are right-padded with 0 to the longest, T (0 if all are empty),
        candidates to the largest number, N.
      model_name: as the server knows it.
      version_label: of the version that is asked, such as ``canary``; empty for the newest one.

    Returns:
      A ``PredictRequest`` with int64 inputs: history features [B, T], candidate features [B, N], and what is the
      impression's own [B, 1]; declared numbers are float32, and NaN where they are missing.

    Raises:
      ValueError: if there is no impression.
    """
    request = _request(impressions, model_name, RANK_SIGNATURE, version_label)
    rows = [impression.features() for impression in impressions]
    for name in REQUEST_FEATURES:
        values = [row[name] for row in rows]
        number = FEATURES[name].dtype == "float"
        shape = (len(values), max(map(len, values)))
        padded: Array = np.full(shape, PADDING_ID, dtype=np.float32 if number else np.int64)
        for index, row in enumerate(values):
            padded[index, : len(row)] = row
        if number:
            set_float32(request.inputs[name], padded)
        else:
            set_int64(request.inputs[name], padded)
    return request


def examples_request(impressions: Sequence[Impression], model_name: str) -> Message:
    """The same for ``serving_default``, whose input are serialized ``tf.train.Example`` without a label, [B] string."""
    request = _request(impressions, model_name, DEFAULT_SIGNATURE)
    set_strings(request.inputs[EXAMPLES], [_serialized(impression) for impression in impressions])
    return request


def signatures_request(model_name: str, version_label: str = "") -> Message:
    """A ``GetModelMetadataRequest`` for what a version can be asked."""
    request = GetModelMetadataRequest(metadata_field=[SIGNATURE_DEF_FIELD])
    _address(request, model_name, version_label)
    return request


def declared_request(model_name: str, version_label: str = "") -> Message:
    """Asks a model for its declared features; one without any does not have the signature."""
    request = PredictRequest()
    _address(request, model_name, version_label)
    request.model_spec.signature_name = DECLARED
    set_strings(request.inputs[EXAMPLES], [b""])
    return request


def _request(impressions: Sequence[Impression], model_name: str, signature: str, version_label: str = "") -> Message:
    if not impressions:
        raise ValueError("impressions: at least one is needed")
    request = PredictRequest()
    _address(request, model_name, version_label)
    request.model_spec.signature_name = signature
    return request


def _address(request: Message, model_name: str, version_label: str) -> None:
    request.model_spec.name = model_name
    if version_label:
        # An empty label would be one, too.
        request.model_spec.version_label = version_label


def _serialized(impression: Impression) -> bytes:
    example = Example()
    for name, values in impression.features().items():
        feature = example.features.feature[name]
        (feature.float_list if FEATURES[name].dtype == "float" else feature.int64_list).value.extend(values)
    serialized: bytes = example.SerializeToString()
    return serialized
