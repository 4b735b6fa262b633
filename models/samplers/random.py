"""Negatives that were drawn when the data set was built."""

from __future__ import annotations

import math

import tensorflow as tf

from ctr.models.impression import CANDIDATE_INPUTS, CANDIDATE_ITEM_ID, UNIFORM
from ctr.models.negatives import ALL, StoredKind, StoredNegatives
from ctr.models.samplers import base
from ctr.models.samplers.registry import RandomConfig, SamplerContext


class Random(base.Sampler):
    """Takes stored candidates as they are.

    Uniform negatives have log Q = log(K / N) (Bengio and Senecal 2008 with a uniform proposal): a user's own items are
    never drawn, which is too little to count. Of other stored kinds no probability is known.

    Args:
      seed: not used.
      stored: what is stored.
      kind: which of it is taken.
      catalogue_size: N.
    """

    def __init__(self, seed: int, stored: StoredNegatives, kind: StoredKind, catalogue_size: int) -> None:
        super().__init__(seed)
        self._negatives = stored.columns(kind)
        self._all = kind == ALL
        count = self._negatives.stop - self._negatives.start
        uniform = kind == UNIFORM or (kind == ALL and stored[UNIFORM] == stored.total)
        self._log_q = math.log(count / catalogue_size) if uniform and count else None

    def _sample(self, step: base.TrainingStep) -> base.Sampled:
        if self._all:
            # Also where labels were flipped, and the only candidate may be a negative.
            features, labels = {name: step.impression[name] for name in CANDIDATE_INPUTS}, step.labels
        else:
            features = base.concatenate(step.columns(base.POSITIVE), step.columns(self._negatives))
            labels = base.positive_first(features[CANDIDATE_ITEM_ID])
        log_q = None if self._log_q is None else tf.fill(tf.shape(labels), self._log_q)
        return base.Sampled(features, labels, log_q, base.is_real(features))


def make_random(context: SamplerContext) -> Random:
    """As it is registered."""
    kind = context.config.section(RandomConfig).stored
    return Random(context.seed, context.stored, kind, context.window.catalogue_size)
