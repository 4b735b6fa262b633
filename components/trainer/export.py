"""What is served: the transform graph and the model in one SavedModel."""

from __future__ import annotations

from typing import Final

import tensorflow as tf
import tensorflow_transform as tft

from components.trainer.input_pipeline import Ragged, to_model_inputs
from models.contract import Ranker
from models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    PADDING_ID,
    REQUEST_FEATURES,
)

SERVING_DEFAULT: Final = "serving_default"
RANK: Final = "rank"
TRANSFORM_FEATURES: Final = "transform_features"

EXAMPLES: Final = "examples"
PROBABILITY: Final = "probability"
LOGIT: Final = "logit"


class ServedRanker(tf.Module):
    """A model and the transform graph it was trained behind; every signature goes through both.

    Signatures:
      ``serving_default``: ``examples`` [B] string, serialized raw impressions -> ``probability``, ``logit``
        [B, N] float32, N the most candidates in the batch. What stands behind an impression's own candidates
        has probability 0 and the lowest finite logit.
      ``rank``: the raw features as tensors, [B, T] and [B, N] int64, right-padded with 0 -> the same.
      ``transform_features``: ``examples`` [B] string -> the model's inputs, [B, L] and [B, N] int64.

    A history longer than L events is cut to its latest L. A missing history is an empty one. Lists of one
    history, or of the candidates, that differ in length are refused with INVALID_ARGUMENT.

    Args:
      model: trained.
      transform: of the Transform step.
      history_length: L.
    """

    def __init__(self, model: Ranker, transform: tft.TFTransformOutput, history_length: int) -> None:
        super().__init__()
        self.model = model
        # Tracked, so that the tables and their vocabulary files become part of the export.
        self.transform = transform.transform_features_layer()
        self.history_length = history_length

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return self._score(self._parse(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)])
    def transform_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return self._inputs(self._parse(examples))

    @tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in REQUEST_FEATURES}])
    def rank(self, impression: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        ragged: dict[str, Ragged] = {}
        for group, first in ((HISTORY_FEATURES, HISTORY_ITEM_ID), (CANDIDATE_FEATURES, CANDIDATE_ITEM_ID)):
            lengths = tf.reduce_sum(tf.cast(impression[first] != PADDING_ID, tf.int64), axis=1)
            for name in group:
                same_shape = tf.debugging.assert_equal(
                    tf.shape(impression[name]), tf.shape(impression[first]), f"{name} and {first} must have one shape"
                )
                with tf.control_dependencies([same_shape]):
                    ragged[name] = tf.RaggedTensor.from_tensor(impression[name], lengths=lengths)
        return self._score({name: value.to_sparse() for name, value in ragged.items()})

    def _parse(self, examples: tf.Tensor) -> dict[str, tf.SparseTensor]:
        return tf.io.parse_example(examples, {name: tf.io.VarLenFeature(tf.int64) for name in REQUEST_FEATURES})

    def _inputs(self, raw: dict[str, tf.SparseTensor]) -> dict[str, tf.Tensor]:
        return to_model_inputs(self.transform(raw), self.history_length)

    def _score(self, raw: dict[str, tf.SparseTensor]) -> dict[str, tf.Tensor]:
        inputs = self._inputs(raw)
        real = inputs[CANDIDATE_ITEM_ID] != PADDING_ID
        logit = tf.where(real, self.model(inputs, training=False).logits, tf.float32.min)
        return {PROBABILITY: tf.sigmoid(logit), LOGIT: logit}


def export(model: Ranker, transform: tft.TFTransformOutput, history_length: int, folder: str) -> None:
    """Writes a SavedModel that needs nothing of this project to be loaded.

    Args:
      model: trained.
      transform: of the Transform step.
      history_length: L.
      folder: to write to.
    """
    served = ServedRanker(model, transform, history_length)
    signatures = {
        SERVING_DEFAULT: served.serving_default.get_concrete_function(),
        RANK: served.rank.get_concrete_function(),
        TRANSFORM_FEATURES: served.transform_features.get_concrete_function(),
    }
    tf.saved_model.save(served, folder, signatures=signatures)
