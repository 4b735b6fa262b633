"""A uniform sample of a stream."""

from __future__ import annotations

import numpy as np

from ctr.models.arrays import Array


class Reservoir:
    """Keeps a uniform sample of at most ``size`` records of a stream of unknown length, in the stream's order.

    The same stream and seed give the same sample, however the stream is cut into batches.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._rng = np.random.default_rng(seed)
        self._priorities = np.empty(0)
        self._records = np.empty(0, object)

    def add(self, records: Array) -> None:
        """Takes a batch of the stream, [B] objects."""
        self._priorities = np.concatenate([self._priorities, self._rng.random(len(records))])
        self._records = np.concatenate([self._records, records])
        if len(self._records) > 2 * self._size:
            self._shrink()

    def sample(self) -> Array:
        """[<= size] objects."""
        self._shrink()
        return self._records

    def _shrink(self) -> None:
        # The smallest priorities are a uniform sample; sorting their positions keeps the stream's order.
        kept = np.sort(np.argsort(self._priorities, kind="stable")[: self._size])
        self._priorities, self._records = self._priorities[kept], self._records[kept]
