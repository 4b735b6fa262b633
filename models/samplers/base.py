"""What every sampler takes and gives.

A sampler turns a batch of stored training impressions into :class:`Sampled`: what the model scores, the labels,
log Q and a mask. It knows no model (the hard one is given a scoring function) and no loss. Only training calls one:
validation and evaluation sets are read past it.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, TypeAlias

import tensorflow as tf

from ctr.models.arrays import Int64Array
from ctr.models.impression import CANDIDATE_INPUTS, CANDIDATE_ITEM_ID, PADDING_ID

Score: TypeAlias = "Callable[[Mapping[str, tf.Tensor]], tf.Tensor]"
"""Candidate features [B, M] -> logits [B, M], without a gradient."""


POSITIVE: Final = slice(0, 1)
"""Where the positive stands among the candidates."""


class Sampled(NamedTuple):
    """What a training step scores: the positive first, then K negatives."""

    features: Mapping[str, tf.Tensor]
    """:data:`ctr.models.impression.CANDIDATE_INPUTS` -> [B, 1 + K] int64."""
    labels: tf.Tensor
    """[B, 1 + K] float32."""
    log_q: tf.Tensor | None
    """[B, 1 + K] float32: log of how often the item is expected among a row's negatives; None where unknown."""
    mask: tf.Tensor
    """[B, 1 + K] bool: false for padding, and for a column that is something the user did."""


class TrainingWindow(NamedTuple):
    """What is known of the training window besides the batch."""

    catalogue_size: int
    """N: items that uniform negatives are drawn from."""
    item_ids: Int64Array
    """[I] items that are positives, rising."""
    item_counts: Int64Array
    """[I] impressions whose positive they are."""
    own_keys: Int64Array
    """[P] :func:`ctr.models.samplers.hashing.pair_key` of each user and each item of that user's events, rising."""


class TrainingStep(NamedTuple):
    """What a sampler sees of one step: the arguments of :meth:`Sampler.sample`, and the step's number."""

    impression: Mapping[str, tf.Tensor]
    labels: tf.Tensor
    user: tf.Tensor
    score: Score
    number: tf.Tensor
    """Scalar int64, from 1."""

    def columns(self, columns: slice) -> dict[str, tf.Tensor]:
        """Some of the stored candidates."""
        return {name: self.impression[name][:, columns] for name in CANDIDATE_INPUTS}


class Sampler(tf.Module, abc.ABC):
    """Create it in the strategy's scope and call it once a training step, in a replica's context.

    What it draws depends on the seed and the step alone, and all that it keeps is in variables that a
    ``tf.train.Checkpoint`` saves: a resumed training draws what an uninterrupted one would have drawn.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.exposures = False
        """Whether candidates are what was shown. A row's first click is then put first; see :meth:`sample`."""
        self.needs_positive = True
        """Whether rows without one can then not be used."""
        self.step = tf.Variable(
            0, dtype=tf.int64, trainable=False, aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA, name="step"
        )

    def sample(self, impression: Mapping[str, tf.Tensor], labels: tf.Tensor, user: tf.Tensor, score: Score) -> Sampled:
        """Draws the candidates of one step.

        Args:
          impression: the model's inputs as stored, this replica's part of the global batch.
          labels: [B, N] float32; the positive stands first unless labels were flipped, or candidates are what was
            shown. Then they are put in another order, each row's first click first. A row without a click is taken as
            it is by what takes stored candidates, and is padding to what draws beside a positive.
          user: [B] int64 user ids.
          score: scores candidates of the same impressions.
        """
        if self.exposures:
            impression, labels = _positive_in_front(impression, labels, self.needs_positive)
        # Read before it is written: the draws of step t are the same on every replica.
        step = tf.identity(self.step) + 1
        self.step.assign(step)
        return self._sample(TrainingStep(impression, labels, user, score, step))

    @abc.abstractmethod
    def _sample(self, step: TrainingStep) -> Sampled:
        """As :meth:`sample`."""


def concatenate(*parts: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """Candidates side by side."""
    return {name: tf.concat([part[name] for part in parts], axis=1) for name in CANDIDATE_INPUTS}


def _positive_in_front(
    impression: Mapping[str, tf.Tensor], labels: tf.Tensor, needed: bool
) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    order = tf.argsort(-labels, axis=1, stable=True)
    labels = tf.gather(labels, order, batch_dims=1)
    # A row without a positive is padding where one is needed.
    kept = (labels[:, :1] > 0) if needed else tf.ones_like(labels[:, :1], tf.bool)
    moved = {name: tf.gather(impression[name], order, batch_dims=1) for name in CANDIDATE_INPUTS}
    return {**impression, **{name: tf.where(kept, value, 0) for name, value in moved.items()}}, labels


def positive_first(like: tf.Tensor) -> tf.Tensor:
    """Labels of [B, 1 + K] candidates whose positive stands first."""
    return tf.one_hot(tf.zeros(tf.shape(like)[0], tf.int32), tf.shape(like)[1])


def is_real(features: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """False for padding."""
    return features[CANDIDATE_ITEM_ID] != PADDING_ID
