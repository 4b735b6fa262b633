"""Events as packed numpy records, and the order of a partition of users."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
import numpy.typing as npt

EVENT: Final = np.dtype(
    [("user", "<i8"), ("item", "<i8"), ("category", "<i8"), ("behavior", "u1"), ("timestamp", "<i8")]
)
"""One row of the log; behavior is a code of ``models.impression.BEHAVIORS``."""

LOGGED_EVENT: Final = np.dtype([*EVENT.descr, ("line", "<u4")])
"""An event and its line in its block, counted from 0."""

PLACE: Final = np.dtype([("source", "<u4"), ("block", "<u4"), ("line", "<u4")])
"""Where a row stands: log file, block of it, line in the block, all counted from 0."""

DUPLICATE_EVENT: Final = np.dtype([("place", PLACE), ("first", PLACE), ("event", EVENT)])
"""A repeated event, its place and the place of the one that was kept."""

_CHUNK_HEADER: Final = np.dtype([("source", "<u4"), ("block", "<u4")])

Records = npt.NDArray[np.void]


def pack_chunk(source: int, block: int, rows: Records) -> bytes:
    """The rows [n] of :data:`LOGGED_EVENT`, in order of line, that one block sends to one partition."""
    return np.array([(source, block)], dtype=_CHUNK_HEADER).tobytes() + rows.tobytes()


def sort_partition(chunks: Iterable[bytes]) -> tuple[Records, Records]:
    """Orders a partition's events by user and time and drops repeated ones.

    Events of one user in the same second keep the order of the log: by file, block, line. Of events with
    the same five fields the first in that order is kept.

    Args:
      chunks: what :func:`pack_chunk` made, in any order.

    Returns:
      events [n] :data:`EVENT` and duplicates [m] :data:`DUPLICATE_EVENT`.
    """
    parts = sorted(
        (tuple(np.frombuffer(chunk, _CHUNK_HEADER, count=1)[0]), np.frombuffer(chunk, LOGGED_EVENT, offset=8))
        for chunk in chunks
    )
    if not parts:
        return np.empty(0, EVENT), np.empty(0, DUPLICATE_EVENT)
    rows = np.concatenate([part for _, part in parts])
    places = np.empty(len(rows), PLACE)
    places["source"] = np.repeat([key[0] for key, _ in parts], [len(part) for _, part in parts])
    places["block"] = np.repeat([key[1] for key, _ in parts], [len(part) for _, part in parts])
    places["line"] = rows["line"]

    order = np.lexsort((rows["timestamp"], rows["user"]))
    events = np.empty(len(rows), EVENT)
    for name in EVENT.names or ():
        events[name] = rows[name][order]
    places = places[order]

    first_of = _first_occurrence(events)
    repeated = first_of != np.arange(len(events))
    duplicates = np.empty(int(repeated.sum()), DUPLICATE_EVENT)
    duplicates["place"] = places[repeated]
    duplicates["first"] = places[first_of[repeated]]
    duplicates["event"] = events[repeated]
    return events[~repeated], duplicates


def _first_occurrence(events: Records) -> npt.NDArray[np.int64]:
    """For each event, sorted by user and time, the index of the first one equal to it."""
    first = np.arange(len(events))
    same_second = (events["user"][1:] == events["user"][:-1]) & (events["timestamp"][1:] == events["timestamp"][:-1])
    tied = np.zeros(len(events), dtype=bool)
    tied[1:] |= same_second
    tied[:-1] |= same_second
    index = np.flatnonzero(tied)
    if not len(index):
        return first
    subset = events[index]
    order = np.lexsort(tuple(subset[name] for name in ("behavior", "category", "item", "timestamp", "user")))
    ranked = subset[order]
    starts = np.ones(len(ranked), dtype=bool)
    starts[1:] = ranked[1:] != ranked[:-1]
    group_start = np.maximum.accumulate(np.where(starts, np.arange(len(ranked)), 0))
    first[index[order]] = index[order][group_start]
    return first
