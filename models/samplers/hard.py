"""Hard negatives among random ones."""

from __future__ import annotations

import tensorflow as tf

from ctr.models.impression import CANDIDATE_INPUTS, CANDIDATE_ITEM_ID, SAME_CATEGORY
from ctr.models.layers.draws import uniform
from ctr.models.samplers import base
from ctr.models.samplers.frequency import Frequencies, configured_frequencies
from ctr.models.samplers.in_batch import BatchColumns, Columns, log_multiplicity
from ctr.models.samplers.registry import HardConfig, SamplerContext, negatives_of


def hard_count(config: HardConfig, negatives: int, step: tf.Tensor) -> tf.Tensor:
    """Hard negatives of a row at a step: up to the whole share of K, along a line. Scalar int32."""
    progress = tf.minimum(tf.cast(step, tf.float32) / max(config.curriculum_steps, 1), 1.0)
    return tf.cast(tf.round(config.most(negatives) * progress), tf.int32)


class HardPool(base.Sampler):
    """The h highest-scoring of a pool of M in-batch columns, and K - h random ones of the rest of the pool.

    What the user did in the window is not in the pool. A hard column stands for itself: it is there with certainty once
    it is in the pool, so Q = M q. The K - h random ones stand for all others of the pool: Q = M q (K - h) / (m - h), m
    the columns of the pool that are not masked. So the softmax with this correction estimates that over the whole pool.

    Args:
      seed: of the draws.
      negatives: K.
      config: M, the share of hard ones and its curriculum.
      window: of training.
      frequencies: gives q.
    """

    def __init__(
        self, seed: int, negatives: int, config: HardConfig, window: base.TrainingWindow, frequencies: Frequencies
    ) -> None:
        super().__init__(seed)
        self.negatives = negatives
        self.frequencies = frequencies
        self._config = config
        self._batch = BatchColumns(window, seed)

    def _sample(self, step: base.TrainingStep) -> base.Sampled:
        pool = self._batch.draw(step, self._config.pool)
        self.frequencies.observe(pool.positives, step.number)
        hard = hard_count(self._config, self.negatives, step.number)
        place, is_hard = self._choose(pool, hard, step)
        positive = step.columns(base.POSITIVE)
        chosen = {name: tf.gather(pool.features[name], place, batch_dims=1) for name in CANDIDATE_INPUTS}
        features = base.concatenate(positive, chosen)
        mask = tf.concat([base.is_real(positive), tf.gather(pool.mask, place, batch_dims=1)], axis=1)

        usable = tf.reduce_sum(tf.cast(pool.mask, tf.int32), axis=1)
        random, others = self.negatives - hard, tf.maximum(usable - hard, 1)
        kept = tf.minimum(random / others, 1.0)[:, None]
        inclusion = tf.where(is_hard, 1.0, tf.cast(kept, tf.float32))
        inclusion = tf.concat([tf.ones_like(inclusion[:, :1]), inclusion], axis=1)
        share = self.frequencies.share(features[CANDIDATE_ITEM_ID], step.number)
        return base.Sampled(features, base.positive_first(mask), log_multiplicity(pool.drawn * share * inclusion), mask)

    def _choose(self, pool: Columns, hard: tf.Tensor, step: base.TrainingStep) -> tuple[tf.Tensor, tf.Tensor]:
        """[B, K] places in the pool, and which of them are hard."""
        size = tf.shape(pool.mask)
        scores = tf.where(pool.mask, tf.stop_gradient(step.score(pool.features)), tf.float32.min)
        rank = tf.argsort(tf.argsort(scores, direction="DESCENDING", stable=True), stable=True)
        is_hard = (rank < hard) & pool.mask
        # The columns of a row are in random order, but those of neighbouring steps must not be taken alike.
        order = uniform(size[1:], tf.stack([tf.cast(self.seed, tf.int64), -step.number]))
        key = tf.where(is_hard, 2.0, tf.where(pool.mask, order, -1.0))
        _, place = tf.math.top_k(key, self.negatives)
        return place, tf.gather(is_hard, place, batch_dims=1)


class HardCategory(base.Sampler):
    """h stored negatives of the target's category, and K - h in-batch ones.

    Args:
      seed: of the draws.
      negatives: K.
      config: the share of hard ones and its curriculum.
      first: column of the first stored negative of the target's category.
      window: of training.
    """

    def __init__(self, seed: int, negatives: int, config: HardConfig, first: int, window: base.TrainingWindow) -> None:
        super().__init__(seed)
        self.negatives = negatives
        self._config = config
        self._first = first
        self._most = config.most(negatives)
        self._batch = BatchColumns(window, seed)

    def _sample(self, step: base.TrainingStep) -> base.Sampled:
        columns = self._batch.draw(step, self.negatives)
        stored = step.columns(slice(self._first, self._first + self._most))
        is_hard = tf.range(self._most) < hard_count(self._config, self.negatives, step.number)
        begin = {
            name: tf.where(is_hard, stored[name], columns.features[name][:, : self._most]) for name in CANDIDATE_INPUTS
        }
        rest = {name: columns.features[name][:, self._most :] for name in CANDIDATE_INPUTS}
        positive = step.columns(base.POSITIVE)
        features = base.concatenate(positive, begin, rest)
        begin_mask = tf.where(is_hard, base.is_real(stored), columns.mask[:, : self._most])
        mask = tf.concat([base.is_real(positive), begin_mask, columns.mask[:, self._most :]], axis=1)
        return base.Sampled(features, base.positive_first(mask), None, mask)


def make_hard(context: SamplerContext) -> base.Sampler:
    """As it is registered: of the configured kind."""
    hard, negatives = context.config.section(HardConfig), negatives_of(context.config)
    if hard.kind == "pool":
        return HardPool(context.seed, negatives, hard, context.window, configured_frequencies(context))
    first = context.stored.columns(SAME_CATEGORY).start
    return HardCategory(context.seed, negatives, hard, first, context.window)
