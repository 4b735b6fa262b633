"""Counting by key: packed records of keys and counts, merged without a Python object a key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import apache_beam as beam
import numpy as np
import pyarrow as pa

from components.impression_gen.events import Records

SECOND_COUNT: Final = np.dtype([("second", "<i8"), ("events", "<i8")])
ITEM_COUNT: Final = np.dtype([("item", "<i8"), ("category", "<i8"), ("train_events", "<i8")])
"""How often an item was logged with a category in the train split; 0 if only later."""

_KEYS: Final = {SECOND_COUNT: ["second"], ITEM_COUNT: ["item", "category"]}
_PARTS_BETWEEN_MERGES: Final = 8


def merge_counts(records: Records) -> Records:
    """Sums the counts of equal keys.

    Args:
      records: [n] :data:`SECOND_COUNT` or :data:`ITEM_COUNT`.

    Returns:
      [m <= n], each key once, in no particular order.
    """
    names = records.dtype.names or ()
    keys = _KEYS[records.dtype]
    counts = [name for name in names if name not in keys]
    table = pa.table({name: np.ascontiguousarray(records[name]) for name in names})
    summed = table.group_by(keys).aggregate([(name, "sum") for name in counts])
    merged = np.empty(len(summed), records.dtype)
    for name in names:
        merged[name] = summed[f"{name}_sum" if name in counts else name].to_numpy()
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
        """Returns the merged records."""
        return self.compact(accumulator)[0]
