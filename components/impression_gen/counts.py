"""Counting by key over blocks: packed records of keys and counts, merged without a Python object a key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import apache_beam as beam
import numpy as np

from components.impression_gen.events import Records

SECOND_COUNT: Final = np.dtype([("second", "<i8"), ("events", "<i8")])
ITEM_COUNT: Final = np.dtype([("item", "<i8"), ("category", "<i8"), ("events", "<i8"), ("train_events", "<i8")])
"""How often an item was logged with a category, in the whole window and in the train split."""

_KEYS: Final = {SECOND_COUNT: ("second",), ITEM_COUNT: ("item", "category")}
_PARTS_BETWEEN_MERGES: Final = 8


def merge_counts(records: Records) -> Records:
    """Sums the counts of equal keys.

    Args:
      records: [n] :data:`SECOND_COUNT` or :data:`ITEM_COUNT`.

    Returns:
      [m <= n], sorted by key, each key once.
    """
    keys = _KEYS[records.dtype]
    ordered = records[np.lexsort(tuple(records[key] for key in reversed(keys)))]
    if not len(ordered):
        return ordered
    starts = np.ones(len(ordered), dtype=bool)
    starts[1:] = np.logical_or.reduce([ordered[key][1:] != ordered[key][:-1] for key in keys])
    index = np.flatnonzero(starts)
    merged = ordered[index]
    for name in records.dtype.names or ():
        if name not in keys:
            merged[name] = np.add.reduceat(ordered[name], index)
    return merged


class MergeCounts(beam.CombineFn):
    """:func:`merge_counts` over bytes of records, on any number of workers."""

    def __init__(self, dtype: np.dtype) -> None:
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
        """Returns the merged records, sorted by key."""
        return self.compact(accumulator)[0]
