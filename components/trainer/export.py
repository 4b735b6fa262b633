"""What is served: the transform graph and the model in one SavedModel."""

from __future__ import annotations

import json
from collections.abc import Mapping

import tensorflow as tf
import tensorflow_transform as tft

from ctr.components.examples.impressions import dtype_of, parse
from ctr.components.trainer.input_pipeline import equal_lengths, to_model_inputs
from ctr.components.trainer.request import checked_request
from ctr.components.trainer.served_counts import NOT_STORED, ServedCounts
from ctr.models.contract import Ranker
from ctr.models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    FEATURES,
    HISTORY_FEATURES,
    HISTORY_ITEM_ID,
    INDEX_OF,
    PADDING_ID,
    PADDING_INDEX,
    REQUEST_FEATURES,
    declared_features,
)
from ctr.serving.signatures import (
    AS_LOGGED_SIGNATURE,
    DECLARED,
    DEFAULT_SIGNATURE,
    EXAMPLES,
    LOGIT,
    PROBABILITY,
    RANK_SIGNATURE,
    TRANSFORM_FEATURES,
)


class ServedRanker(tf.Module):
    """A model and the transform graph it was trained behind; every signature goes through both.

    Signatures:
      ``serving_default``: ``examples`` [B] string, serialized raw impressions -> ``probability``, ``logit``
        [B, N] float32, N the most candidates in the batch. Padding has probability 0 and the lowest finite logit.
      ``rank``: the raw features as tensors, [B, T], [B, N] and [B, 1] int64 (float32 of declared numbers), padded with
        0 -> the same.
      ``as_logged``: ``serving_default`` with what the examples say where that puts a constant, as for a position; where
        a feature has such a constant.
      ``transform_features``: ``examples`` [B] string -> the model's inputs, [B, L], [B, N] and [B, 1] int64.
      ``declared_features``, where there are some: ``examples`` [B] string -> for each JSON of their rows.

    :func:`ctr.components.trainer.request.checked_request` says what is padding and what is refused with
    INVALID_ARGUMENT; so are lists of one history, or of the candidates, that differ in length. A history longer than L
    events is cut to its latest L, ``history_length``. A missing history is an empty one. A declared feature that an
    example does not have is missing for all events, candidates, or the impression. Counts of a candidate's events are
    those of an example, where it has them, as what ingest stored does; else those of the end of the log.
    """

    def __init__(
        self, model: Ranker, transform: tft.TFTransformOutput, history_length: int, catalogue_uri: str = ""
    ) -> None:
        super().__init__()
        # Of a tracked Keras variable a second one is written, and a session, as TF Serving has it, restores only that.
        object.__setattr__(self, "model", model)
        self.weights = [weight.value for weight in model.weights]
        # Tracked, so that the tables and their vocabulary files become part of the export.
        self.transform = transform.transform_features_layer()
        self.history_length = history_length
        self.counts = ServedCounts(catalogue_uri)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)], autograph=False)
    def serving_default(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return self._score(self._parse(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)], autograph=False)
    def transform_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return self._inputs(self._parse(examples))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, EXAMPLES)], autograph=False)
    def declared_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return {DECLARED: tf.fill(tf.shape(examples), json.dumps(declared_features()))}

    @tf.function(autograph=False)
    def rank(self, impression: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        return self._score(impression)

    def as_logged(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """See the class docstring."""
        logged = parse(examples, [CANDIDATE_ITEM_ID, *constants()])
        with tf.control_dependencies(equal_lengths(logged, [*logged])):
            given = {name: logged[name].to_tensor() for name in constants()}
        return self._score(self._parse(examples), given)

    def _parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        lists = parse(examples, REQUEST_FEATURES)
        for name in REQUEST_FEATURES:
            if FEATURES[name].declared:
                lists[name] = _with_defaults(name, lists)
        checks = [*equal_lengths(lists, HISTORY_FEATURES), *equal_lengths(lists, CANDIDATE_FEATURES)]
        stored = parse(examples, self.counts.names) if self.counts.names else {}
        checks += [_none_or_all(name, values, lists[CANDIDATE_ITEM_ID]) for name, values in stored.items()]
        with tf.control_dependencies(checks):
            impression = {name: values.to_tensor() for name, values in lists.items()}
        shape = tf.shape(impression[CANDIDATE_ITEM_ID], tf.int64)
        return impression | {name: values.to_tensor(NOT_STORED, shape=shape) for name, values in stored.items()}

    def _inputs(
        self, impression: dict[str, tf.Tensor], logged: Mapping[str, tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        raw = checked_request({name: impression[name] for name in REQUEST_FEATURES})
        raw |= self.counts.filled(raw, impression)
        raw |= {name: raw[name].with_values(tf.reshape(values, [-1])) for name, values in (logged or {}).items()}
        mapped = self.transform({name: raw[name].to_sparse() for name in INDEX_OF})
        # The transform graph keeps every value at its place, and features that share their splits need no comparison.
        indices = {index: raw[name].with_values(mapped[index].values) for name, index in INDEX_OF.items()}
        inputs = to_model_inputs(raw | indices, self.history_length)
        padding = inputs[CANDIDATE_ITEM_ID] == PADDING_ID
        # To the vocabularies padding between candidates is an id that they do not know.
        for index in (index for name, index in INDEX_OF.items() if FEATURES[name].group == "candidate"):
            inputs[index] = tf.where(padding, tf.constant(PADDING_INDEX, tf.int64), inputs[index])
        return inputs

    def _score(
        self, impression: dict[str, tf.Tensor], logged: Mapping[str, tf.Tensor] | None = None
    ) -> dict[str, tf.Tensor]:
        inputs = self._inputs(impression, logged)
        real = inputs[CANDIDATE_ITEM_ID] != PADDING_ID
        logit = tf.where(real, self.model(inputs, training=False).logits, tf.float32.min)
        return {PROBABILITY: tf.sigmoid(logit), LOGIT: logit}


def _none_or_all(name: str, stored: tf.RaggedTensor, candidates: tf.RaggedTensor) -> tf.Operation | None:
    """Checks that an example has a value for each candidate, or for none."""
    lengths = stored.row_lengths()
    return tf.debugging.assert_equal(
        lengths,
        tf.where(lengths > 0, candidates.row_lengths(), 0),
        message=f"{name} must have as many values as {CANDIDATE_ITEM_ID} in each impression, or none",
    )


def constants() -> list[str]:
    """Features of candidates that serving puts a constant in the place of."""
    return [name for name, feature in FEATURES.items() if isinstance(feature.served, int)]


def _with_defaults(name: str, lists: Mapping[str, tf.RaggedTensor]) -> tf.RaggedTensor:
    """A declared feature of an example with what is missing where an example has no value of it."""
    feature, values = FEATURES[name], lists[name]
    if feature.group == "context_input":
        lengths = tf.ones_like(values.row_lengths())
    else:
        lengths = lists[HISTORY_ITEM_ID if feature.group == "history" else CANDIDATE_ITEM_ID].row_lengths()
    lacking = tf.where(values.row_lengths() == 0, lengths, 0)
    missing = tf.constant(float("nan") if feature.dtype == "float" else 0, values.dtype)
    filling = tf.RaggedTensor.from_row_lengths(tf.fill([tf.reduce_sum(lacking)], missing), lacking, validate=False)
    return tf.concat([values, filling], axis=1)


def export(
    model: Ranker, transform: tft.TFTransformOutput, history_length: int, folder: str, catalogue_uri: str = ""
) -> None:
    """Writes a :class:`ServedRanker` as a SavedModel that needs nothing of this project to be loaded.

    Args:
      model: what is served.
      transform: the transform graph that it was trained behind.
      history_length: L.
      folder: gets the SavedModel.
      catalogue_uri: where ingest wrote the counts that are looked up, if any are.
    """
    served = ServedRanker(model, transform, history_length, catalogue_uri)
    request = {name: tf.TensorSpec([None, None], dtype_of(name), name) for name in REQUEST_FEATURES}
    signatures = {
        DEFAULT_SIGNATURE: served.serving_default.get_concrete_function(),
        RANK_SIGNATURE: served.rank.get_concrete_function(request),
        TRANSFORM_FEATURES: served.transform_features.get_concrete_function(),
    }
    if constants():
        of_examples = [tf.TensorSpec([None], tf.string, EXAMPLES)]
        as_logged = tf.function(served.as_logged, input_signature=of_examples, autograph=False)
        signatures[AS_LOGGED_SIGNATURE] = as_logged.get_concrete_function()
    if declared_features():
        signatures[DECLARED] = served.declared_features.get_concrete_function()
    tf.saved_model.save(served, folder, signatures=signatures)
