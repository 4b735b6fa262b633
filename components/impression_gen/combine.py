"""Counting on any number of workers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import apache_beam as beam
import numpy as np

from ctr.components.impression_gen.counts import merge_counts

_PARTS_BETWEEN_MERGES: Final = 8


class MergeCounts(beam.CombineFn):
    """:func:`counts.merge_counts` over bytes of records, on any number of workers."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype = dtype

    def create_accumulator(self) -> list[bytes]:
        """Returns no counts."""
        return []

    def add_input(self, accumulator: list[bytes], element: bytes) -> list[bytes]:
        """Adds records; merges now and then, so that repeated keys do not pile up."""
        accumulator.append(element)
        return self.compact(accumulator) if len(accumulator) >= _PARTS_BETWEEN_MERGES else accumulator

    def merge_accumulators(self, accumulators: Iterable[list[bytes]]) -> list[bytes]:
        """Joins partial counts."""
        return self.compact([part for accumulator in accumulators for part in accumulator])

    def compact(self, accumulator: list[bytes]) -> list[bytes]:
        """Merges the parts into one."""
        return [merge_counts(np.frombuffer(b"".join(accumulator), self._dtype)).tobytes()]

    def extract_output(self, accumulator: list[bytes]) -> bytes:
        """Returns the merged records."""
        return self.compact(accumulator)[0]
