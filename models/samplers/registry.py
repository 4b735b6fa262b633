"""Samplers by name: a new sampler is one new file and one line here."""

from __future__ import annotations

from collections.abc import Callable

from models.samplers.base import Sampler, StoredNegatives, TrainingWindow
from models.samplers.config import SamplerConfig
from models.samplers.frequency import ExactFrequencies, Frequencies, StreamingFrequencies
from models.samplers.hard import HardCategory, HardPool
from models.samplers.in_batch import InBatch
from models.samplers.mixed import Mixed
from models.samplers.random import Random


def build_sampler(
    config: SamplerConfig,
    *,
    window: TrainingWindow,
    stored: StoredNegatives,
    batch_size: int,
    seed: int,
) -> Sampler:
    """A new sampler, to be created in the strategy's scope.

    Args:
      config: which one, and its settings; its fit to the loss and to the stored negatives has been checked by
        :func:`models.samplers.config.require_pair`.
      window: of training.
      stored: which columns the stored impressions have.
      batch_size: impressions of a full step over all replicas.
      seed: of the draws.
    """

    def exact() -> Frequencies:
        return ExactFrequencies(window)

    def streaming() -> Frequencies:
        return StreamingFrequencies(config.frequency, batch_size)

    def chosen() -> Frequencies:
        return exact() if config.frequencies == "exact" else streaming()

    def hard() -> Sampler:
        if config.hard.kind == "pool":
            return HardPool(seed, config.negatives, config.hard, window, chosen())
        first = stored.columns("same_category").start
        return HardCategory(seed, config.negatives, config.hard, first, window)

    samplers: dict[str, Callable[[], Sampler]] = {
        "random": lambda: Random(seed, stored, config.stored, window.catalogue_size),
        "in_batch": lambda: InBatch(seed, config.negatives, window, exact()),
        "frequency": lambda: InBatch(seed, config.negatives, window, streaming()),
        "mixed": lambda: Mixed(seed, config.negatives, config.uniform_negatives, window, chosen()),
        "hard": hard,
    }
    return samplers[config.name]()
