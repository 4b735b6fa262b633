"""Counting by key: packed records of keys and counts, merged without a Python object a key."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa

from ctr.components.impression_gen.events import Records
from ctr.components.impression_gen.targets import last_of_user
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.settings import IngestConfig

SECOND_COUNT: Final = np.dtype([("second", "<i8"), ("events", "<i8")])
ITEM_COUNT: Final = np.dtype([("item", "<i8"), ("category", "<i8"), ("train_events", "<i8")])
"""How often an item was logged with a category in the train split; 0 if only later."""

_KEYS: Final = {SECOND_COUNT: ["second"], ITEM_COUNT: ["item", "category"]}


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


def count_seconds(events: Records, ingest: IngestConfig) -> Records:
    """The events in each second, [m] :data:`SECOND_COUNT`, that the shares of the splits are of.

    Args:
      events: [n] EVENT of whole users, in the order of ``events.sort_partition``.
      ingest: whether they are each user's last alone.
    """
    counted = events[last_of_user(events)] if ingest.targets == "last" else events
    seconds = np.ones(len(counted), SECOND_COUNT)
    seconds["second"] = counted["timestamp"]
    return merge_counts(seconds)


def count_items(events: Records, timeline: Timeline, ingest: IngestConfig) -> Records:
    """How often each item was logged with each category, [m] :data:`ITEM_COUNT`, of [n] EVENT."""
    counts = np.empty(len(events), ITEM_COUNT)
    counts["item"], counts["category"] = events["item"], events["category"]
    counts["train_events"] = (events["timestamp"] < timeline.validation_start) | (ingest.catalogue_from == "all")
    return merge_counts(counts)
