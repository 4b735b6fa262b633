"""In-batch negatives, alone or with uniform ones beside them."""

from __future__ import annotations

import tensorflow as tf

from ctr.models.impression import CANDIDATE_ITEM_ID
from ctr.models.samplers import base
from ctr.models.samplers.frequency import ExactFrequencies, Frequencies, configured_frequencies, streaming_frequencies
from ctr.models.samplers.in_batch import BatchColumns, log_multiplicity
from ctr.models.samplers.registry import SamplerContext, negatives_of, uniform_of


class Mixed(base.Sampler):
    """K_r = alpha K stored uniform negatives and K_b = K - K_r in-batch ones (arXiv 2006.02282; Yang et al., WWW 2020).

    An item is expected Q = K_b q + K_r / N times among a row's negatives, and log Q is that of *every* column,
    whichever of the two drew it; q is exact, or estimated as the stream goes by. alpha = 0 is in_batch (with estimates,
    streaming_frequency) and alpha = 1 is random over uniform negatives.

    Args:
      seed: of the in-batch draws.
      negatives: K.
      uniform: K_r.
      window: of training.
      frequencies: gives q.
    """

    def __init__(
        self, seed: int, negatives: int, uniform: int, window: base.TrainingWindow, frequencies: Frequencies
    ) -> None:
        super().__init__(seed)
        self.uniform = uniform
        self.from_batch = negatives - uniform
        self.frequencies = frequencies
        self._uniform_multiplicity = uniform / window.catalogue_size
        self._batch = BatchColumns(window, seed)

    def _sample(self, step: base.TrainingStep) -> base.Sampled:
        stored = step.columns(slice(0, 1 + self.uniform))
        if not self.from_batch:
            multiplicity = tf.fill(tf.shape(stored[CANDIDATE_ITEM_ID]), self._uniform_multiplicity)
            mask = base.is_real(stored)
            return base.Sampled(stored, base.positive_first(mask), log_multiplicity(multiplicity), mask)
        columns = self._batch.draw(step, self.from_batch)
        self.frequencies.observe(columns.positives, step.number)
        features = base.concatenate(stored, columns.features)
        in_batch = columns.drawn * self.frequencies.share(features[CANDIDATE_ITEM_ID], step.number)
        mask = tf.concat([base.is_real(stored), columns.mask], axis=1)
        log_q = log_multiplicity(in_batch + self._uniform_multiplicity)
        return base.Sampled(features, base.positive_first(mask), log_q, mask)


def _made(context: SamplerContext, uniform: int, frequencies: Frequencies) -> Mixed:
    return Mixed(context.seed, negatives_of(context.config), uniform, context.window, frequencies)


def make_in_batch(context: SamplerContext) -> Mixed:
    """As it is registered: corrected by exact frequencies."""
    return _made(context, 0, ExactFrequencies(context.window))


def make_streaming_frequency(context: SamplerContext) -> Mixed:
    """As it is registered: the same, corrected by streaming frequencies."""
    return _made(context, 0, streaming_frequencies(context))


def make_mixed(context: SamplerContext) -> Mixed:
    """As it is registered."""
    return _made(context, uniform_of(context.config), configured_frequencies(context))
