"""In-batch and uniform negatives side by side."""

from __future__ import annotations

import tensorflow as tf

from models.impression import CANDIDATE_ITEM_ID
from models.samplers.base import Sampled, Sampler, TrainingStep, TrainingWindow, concatenate, is_real, positive_first
from models.samplers.frequency import Frequencies, configured_frequencies
from models.samplers.in_batch import BatchColumns, log_multiplicity
from models.samplers.registry import SamplerContext, negatives_of, uniform_of


class Mixed(Sampler):
    """K_r = alpha K stored uniform negatives and K_b = K - K_r in-batch ones (arXiv 2006.02282; Yang et al., WWW 2020).

    An item is expected Q = K_b q + K_r / N times among a row's negatives, and log Q is that of *every* column,
    whichever of the two drew it. alpha = 0 is in_batch and alpha = 1 is random over uniform negatives.

    Args:
      seed: of the in-batch draws.
      negatives: K.
      uniform: K_r.
      window: of training.
      frequencies: gives q.
    """

    def __init__(
        self, seed: int, negatives: int, uniform: int, window: TrainingWindow, frequencies: Frequencies
    ) -> None:
        super().__init__(seed)
        self.uniform = uniform
        self.from_batch = negatives - uniform
        self.frequencies = frequencies
        self._uniform_multiplicity = uniform / window.catalogue_size
        self._batch = BatchColumns(window, seed)

    def _sample(self, step: TrainingStep) -> Sampled:
        stored = step.columns(slice(0, 1 + self.uniform))
        if not self.from_batch:
            multiplicity = tf.fill(tf.shape(stored[CANDIDATE_ITEM_ID]), self._uniform_multiplicity)
            mask = is_real(stored)
            return Sampled(stored, positive_first(mask), log_multiplicity(multiplicity), mask)
        columns = self._batch.draw(step, self.from_batch)
        self.frequencies.observe(columns.positives, step.number)
        features = concatenate(stored, columns.features)
        in_batch = columns.drawn * self.frequencies.share(features[CANDIDATE_ITEM_ID], step.number)
        mask = tf.concat([is_real(stored), columns.mask], axis=1)
        log_q = log_multiplicity(in_batch + self._uniform_multiplicity)
        return Sampled(features, positive_first(mask), log_q, mask)


def make_mixed(context: SamplerContext) -> Mixed:
    """As it is registered."""
    frequencies = configured_frequencies(context)
    negatives, uniform = negatives_of(context.config), uniform_of(context.config)
    return Mixed(context.seed, negatives, uniform, context.window, frequencies)
