"""PredictRequests for the ``rank`` signature: the one place where impressions become padded tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from models.impression import PADDING_ID, REQUEST_FEATURES
from serving.impressions import Impression

RANK_SIGNATURE: Final = "rank"
PROBABILITY: Final = "probability"
LOGIT: Final = "logit"


def rank_request(impressions: Sequence[Impression], model_name: str) -> predict_pb2.PredictRequest:
    """One request for a batch of impressions.

    Args:
      impressions: B >= 1 impressions. Histories are right-padded with 0 to the longest, T (0 if all are empty),
        candidates to the largest number, N.
      model_name: as the server knows it.

    Returns:
      A request with int64 inputs: history features [B, T], candidate features [B, N].

    Raises:
      ValueError: if there is no impression.
    """
    if not impressions:
        raise ValueError("impressions: at least one is needed")
    rows = [impression.features() for impression in impressions]
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model_name
    request.model_spec.signature_name = RANK_SIGNATURE
    for name in REQUEST_FEATURES:
        values = [row[name] for row in rows]
        padded = np.full((len(values), max(map(len, values))), PADDING_ID, dtype=np.int64)
        for index, row in enumerate(values):
            padded[index, : len(row)] = row
        request.inputs[name].CopyFrom(tf.make_tensor_proto(padded))
    return request
