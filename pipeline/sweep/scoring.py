"""Scores the eval split in process, pair by pair, as the Evaluator does in its own step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import tensorflow as tf

from components.scoring.auc import auc, grouped_auc
from components.scoring.seen import positive_is_new
from components.trainer.input_pipeline import MODEL_FEATURES, to_model_inputs
from models.contract import Ranker
from models.impression import (
    CANDIDATE_ITEM_ID,
    HISTORY_INPUTS,
    HISTORY_ITEM_ID,
    LABEL,
    NEGATIVE_SET,
    PADDING_ID,
    USER_ID,
)
from pipeline.sweep.results import SetMetrics

BATCH_SIZE: Final = 512
_SHUFFLE_SEED: Final = 2017
_SHUFFLE_BUFFER: Final = 200_000


class Pairs(NamedTuple):
    """Scored pairs, [n] each."""

    negative_set: np.ndarray
    user: np.ndarray
    label: np.ndarray
    logit: np.ndarray
    new: np.ndarray
    """Whether the positive of the pair's impression is new to the user."""


def score(model: Ranker, files: Sequence[str], history_length: int) -> Pairs:
    """Scores every pair of transformed examples.

    Args:
      model: trained.
      files: TFRecord gzip.
      history_length: L.
    """
    batches = _records(files).batch(BATCH_SIZE).map(lambda records: _parse(records, history_length))
    return _score(model, batches)


def score_with_shuffled_histories(model: Ranker, files: Sequence[str], history_length: int, negative_set: str) -> Pairs:
    """The same for one negative set, each impression with the history of an impression of another user.

    Impressions are shuffled, and each takes the history of the one before it in its batch. Where both are of one
    user, the impression is left out.

    Args:
      model: trained.
      files: TFRecord gzip.
      history_length: L.
      negative_set: the one to score.
    """
    wanted = _records(files).batch(BATCH_SIZE * 8).map(lambda records: _only(records, negative_set)).unbatch()
    batches = (
        wanted.shuffle(_SHUFFLE_BUFFER, seed=_SHUFFLE_SEED)
        .batch(BATCH_SIZE)
        .map(lambda records: _parse(records, history_length))
        .map(_exchange_histories)
    )
    return _score(model, batches)


def metrics(pairs: Pairs) -> dict[str, SetMetrics]:
    """By negative set, in the order of their names.

    Raises:
      ValueError: if a logit is NaN.
    """
    result = {}
    for name in sorted(set(pairs.negative_set.tolist())):
        rows = pairs.negative_set == name
        user, label, logit = pairs.user[rows], pairs.label[rows], pairs.logit[rows].astype(np.float64)
        new = pairs.new[rows]
        auc_new = auc(label[new], logit[new])
        by_user = grouped_auc(user, label, logit)
        result[name.decode()] = SetMetrics(
            pairs=int(rows.sum()),
            auc=auc(label, logit),
            auc_new=auc_new if np.isfinite(auc_new) else None,
            gauc=by_user.value if by_user.groups else None,
            log_loss=float(np.logaddexp(0.0, np.where(label > 0, -logit, logit)).mean()),
        )
    return result


def _records(files: Sequence[str]) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(sorted(files), compression_type="GZIP")


def _only(records: tf.Tensor, negative_set: str) -> tf.Tensor:
    parsed = tf.io.parse_example(records, {NEGATIVE_SET: tf.io.FixedLenFeature([], tf.string)})
    return tf.boolean_mask(records, parsed[NEGATIVE_SET] == negative_set)


def _parse(records: tf.Tensor, history_length: int) -> tuple[dict[str, tf.Tensor], ...]:
    spec: dict[str, object] = {
        name: tf.io.RaggedFeature(tf.int64, row_splits_dtype=tf.int64) for name in (*MODEL_FEATURES, LABEL)
    }
    spec |= {USER_ID: tf.io.FixedLenFeature([], tf.int64), NEGATIVE_SET: tf.io.FixedLenFeature([], tf.string)}
    features = tf.io.parse_example(records, spec)
    about = {name: features[name] for name in (USER_ID, NEGATIVE_SET)}
    about[LABEL] = features[LABEL].to_tensor()
    return to_model_inputs(features, history_length), about


def _exchange_histories(
    inputs: dict[str, tf.Tensor], about: dict[str, tf.Tensor]
) -> tuple[dict[str, tf.Tensor], dict[str, tf.Tensor]]:
    strangers = about[USER_ID] != tf.roll(about[USER_ID], 1, axis=0)
    exchanged = inputs | {name: tf.roll(inputs[name], 1, axis=0) for name in HISTORY_INPUTS}
    inputs, about = tf.nest.map_structure(lambda value: tf.boolean_mask(value, strangers), (exchanged, about))
    return inputs, about


def _score(model: Ranker, batches: tf.data.Dataset) -> Pairs:
    @tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in MODEL_FEATURES}])
    def logits_of(inputs: dict[str, tf.Tensor]) -> tf.Tensor:
        return model(inputs, training=False).logits

    parts = []
    for inputs, about in batches.prefetch(tf.data.AUTOTUNE):
        real = inputs[CANDIDATE_ITEM_ID].numpy() != PADDING_ID
        candidates = real.sum(axis=1)
        new = positive_is_new(inputs[HISTORY_ITEM_ID], inputs[CANDIDATE_ITEM_ID], about[LABEL])
        parts.append(
            Pairs(
                np.repeat(about[NEGATIVE_SET].numpy(), candidates),
                np.repeat(about[USER_ID].numpy(), candidates),
                about[LABEL].numpy()[real],
                logits_of(inputs).numpy()[real],
                np.repeat(new.numpy(), candidates),
            )
        )
    return Pairs(*(np.concatenate(column) for column in zip(*parts, strict=True)))
