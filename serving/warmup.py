"""Warmup records: requests that a server runs on a new version before it takes traffic.

The file and its format are TF Serving's: a TFRecord of ``PredictionLog``
(https://www.tensorflow.org/tfx/serving/saved_model_warmup). ``tensorflow_model_server`` reads it too.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import tensorflow as tf
from google.protobuf.message import Message
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

WARMUP_FILE: Final = os.path.join("assets.extra", "tf_serving_warmup_requests")
"""Relative to a version's directory."""
MAX_WARMUP_REQUESTS: Final = 1000
"""TF Serving refuses to load a version with more."""


def write_warmup(model_dir: str | Path, requests: Sequence[Message]) -> None:
    """Writes the warmup records of a SavedModel that is not yet served.

    Args:
      model_dir: directory of the SavedModel, local or an address that TensorFlow knows.
      requests: 1 to 1000 requests, for instance of :func:`ctr.serving.requests.rank_request`. A server runs them under
        whatever name it serves the model.

    Raises:
      ValueError: if there are no or too many requests.
    """
    if not 1 <= len(requests) <= MAX_WARMUP_REQUESTS:
        raise ValueError(f"requests: 1 to {MAX_WARMUP_REQUESTS} are possible, got {len(requests)}")
    path = os.path.join(model_dir, WARMUP_FILE)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for request in requests:
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.ParseFromString(request.SerializeToString())
            writer.write(log.SerializeToString())


def read_warmup(model_dir: str | Path) -> Iterator[predict_pb2.PredictRequest]:
    """The warmup requests of a SavedModel; none if it has no warmup file.

    Raises:
      ValueError: at a record that is not a Predict request, or at one too many.
    """
    path = os.path.join(model_dir, WARMUP_FILE)
    if not tf.io.gfile.exists(path):
        return
    for number, record in enumerate(tf.data.TFRecordDataset(path).as_numpy_iterator(), start=1):
        if number > MAX_WARMUP_REQUESTS:
            raise ValueError(f"{path}: more than {MAX_WARMUP_REQUESTS} warmup records")
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if not log.HasField("predict_log"):
            raise ValueError(f"{path}: record {number} holds {log.WhichOneof('log_type')}, only predict_log is served")
        yield log.predict_log.request
