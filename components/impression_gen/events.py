"""Events as packed numpy records, and the order of a partition of users."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from ctr.components import quarantine
from ctr.components.impression_gen.hashing import id_hash
from ctr.components.lookup import starts_run
from ctr.models.arrays import Array, Int64Array
from ctr.models.impression import BEHAVIORS

FIELDS: Final = ("user_id", "item_id", "category_id", "behavior", "timestamp")
"""Of a row of the log, in order."""

EVENT: Final = np.dtype(
    [("user", "<i8"), ("item", "<i8"), ("category", "<i8"), ("behavior", "u1"), ("timestamp", "<i8")]
)
"""One row of the log; behavior is a code of ``ctr.models.impression.BEHAVIORS``."""

EXPOSED_EVENT: Final = np.dtype([*EVENT.descr, ("request", "<i8"), ("position", "<u2"), ("shown", "u1")])
"""One row of a log of exposures: its request, 0 where the log names none; where in it the item was shown, 0 where the
log does not say; and one of the next three."""
NOT_SHOWN: Final = 0
"""An event of histories alone."""
NOT_CLICKED: Final = 1
CLICKED: Final = 2


def logged(kind: np.dtype[Any]) -> np.dtype[Any]:
    """An event of that type and its line in its block, counted from 0."""
    return np.dtype([*kind.descr, ("line", "<u4")])


LOGGED_EVENT: Final = logged(EVENT)
"""That of :data:`EVENT`."""

PLACE: Final = np.dtype([("source", "<u4"), ("block", "<u4"), ("line", "<u4")])
"""Where a row stands: log file, block of it, line in the block, all counted from 0."""

DUPLICATE_EVENT: Final = np.dtype([("place", PLACE), ("first", PLACE), ("event", EVENT), ("of_request", "?")])
"""A repeated event, its place and the place of the one that was kept; or one of a request that contradicts itself, and
where that one begins."""

_ALIKE: Final[dict[str, tuple[str, ...]]] = {
    "same_event": EVENT.names or (),
    "same_item_and_second": ("user", "timestamp", "item"),
    "none": (),
}
"""In which fields an event is alike with the one that it repeats; the order sets such events side by side."""
_ALIKE_IF_SHOWN: Final[dict[str, tuple[str, ...]]] = {
    "same_event": EXPOSED_EVENT.names or (),
    "same_item_and_second": ("user", "timestamp", "request", "item"),
    "none": (),
}
_ORDER_IF_SHOWN: Final = ("shown", "position", "category", "behavior", "item", "request", "timestamp")

_CLICKED_FIRST: Final = [2, 1, 0]
"""The order of what was not shown, not clicked and clicked, where one of several is kept."""

_NAMES_OF_CODES: Final = {code: name for name, code in BEHAVIORS.items()}
_CHUNK_HEADER: Final = np.dtype([("source", "<u4"), ("block", "<u4")])

Records = npt.NDArray[np.void]


@dataclass(frozen=True, eq=False)
class EventColumns:
    """The fields of some events, each [m] int64 on its own: values at random places are gathered faster from these."""

    user: Int64Array
    item: Int64Array
    category: Int64Array
    behavior: Int64Array
    timestamp: Int64Array

    @classmethod
    def of(cls, events: Records) -> EventColumns:
        """Copies these fields of [m] events."""
        return cls(*(np.ascontiguousarray(events[name], np.int64) for name in EVENT.names or ()))


def pack_chunk(source: int, block: int, rows: Records) -> bytes:
    """The rows [n] of :data:`LOGGED_EVENT`, in order of line, that one block sends to one partition."""
    return np.array([(source, block)], dtype=_CHUNK_HEADER).tobytes() + rows.tobytes()


def open_chunk(chunk: bytes, kind: np.dtype[Any]) -> tuple[tuple[int, int], Records]:
    """Source, block and rows of what :func:`pack_chunk` made."""
    source, block = np.frombuffer(chunk, _CHUNK_HEADER, count=1)[0].tolist()
    return (source, block), np.frombuffer(chunk, logged(kind), offset=_CHUNK_HEADER.itemsize)


def sort_partition(
    chunks: Iterable[bytes], duplicates: str = "same_event", kind: np.dtype[Any] = EVENT
) -> tuple[Records, Records]:
    """Orders a partition's events and drops repeated ones.

    The order is that of (hash of the user, timestamp, item, behaviour, category): values alone decide it, never the
    order of the log. Of events with the same five fields the first in the log is kept, by file, block, line; of those
    of one user, item and second alone, the first in that order. Where none repeats another, those with the same five
    fields are in the order of their declared values. Exposures are alike only in one request, and never with an event
    that was not shown; of those of one item and second a clicked one is kept.

    Args:
      chunks: what :func:`pack_chunk` made, in any order.
      duplicates: what repeats an event: ``same_event``, ``same_item_and_second``, or ``none``.
      kind: of the events, :data:`EVENT` or ``values.event_type``.

    Returns:
      events [n] of that type and duplicates [m] :data:`DUPLICATE_EVENT`.
    """
    parts = sorted((open_chunk(chunk, kind) for chunk in chunks), key=lambda part: part[0])
    if not parts:
        return np.empty(0, kind), np.empty(0, DUPLICATE_EVENT)
    rows = np.concatenate([part for _, part in parts])
    shown = "shown" in (kind.names or ())
    with_values = duplicates == "none" and "values" in (kind.names or ())
    if shown:
        of_shown = [rows[name] for name in _ORDER_IF_SHOWN]
        if duplicates == "same_item_and_second":
            of_shown.insert(_ORDER_IF_SHOWN.index("item"), np.array(_CLICKED_FIRST)[rows["shown"]])
        of_values = value_keys(rows["values"]) if with_values else []
        order = np.lexsort([*of_values, *of_shown, id_hash(rows["user"])])
    else:
        order = _order(rows, with_values)
    events = np.empty(len(rows), kind)
    for name in kind.names or ():
        events[name] = rows[name][order]
    alike = (_ALIKE_IF_SHOWN if shown else _ALIKE)[duplicates]
    columns = [events[name] for name in alike]
    if shown:
        columns.append(events["shown"] == NOT_SHOWN)
    repeated = ~starts_run(*columns) if alike else np.zeros(len(events), bool)
    again = np.flatnonzero(repeated)
    first = np.maximum.accumulate(np.where(repeated, 0, np.arange(len(events))))[again]

    starts = np.cumsum([0, *(len(part) for _, part in parts)])
    keys = np.array([key for key, _ in parts], _CHUNK_HEADER)

    def places(index: Int64Array) -> Records:
        row = order[index]
        part = np.searchsorted(starts, row, side="right") - 1
        place = np.empty(len(row), PLACE)
        place["source"], place["block"], place["line"] = keys["source"][part], keys["block"][part], rows["line"][row]
        return place

    dropped = np.zeros(len(again), DUPLICATE_EVENT)
    dropped["place"], dropped["first"], dropped["event"] = places(again), places(first), plain(events[again])
    return events[~repeated], dropped


def plain(events: Records) -> Records:
    """Events [n] with the fields of :data:`EVENT` alone."""
    if events.dtype == EVENT:
        return events
    bare = np.empty(len(events), EVENT)
    for name in EVENT.names or ():
        bare[name] = events[name]
    return bare


def dropped_because(row: np.void, first: str) -> tuple[str, str]:
    """Reason and detail of one :data:`DUPLICATE_EVENT`, with the place named in it in words."""
    if row["of_request"]:
        return quarantine.CONTRADICTORY_REQUEST, f"several users or seconds in its request, which begins at {first}"
    return quarantine.DUPLICATE, f"first at {first}"


def earliest(duplicates: Records, most: int) -> Records:
    """The first of [n] :data:`DUPLICATE_EVENT` in the log."""
    first: Records = duplicates[np.lexsort([duplicates["place"][name] for name in ("line", "block", "source")])[:most]]
    return first


def count_behaviors(events: Records) -> dict[str, int]:
    """Events of each kind, of [n] :data:`EVENT`."""
    of_code = np.bincount(events["behavior"], minlength=1 + max(_NAMES_OF_CODES))
    return {name: int(of_code[code]) for code, name in _NAMES_OF_CODES.items()}


def as_text(event: np.void) -> str:
    """One :data:`EVENT` as a row of a log."""
    user, item, category, behavior, timestamp = event.tolist()
    return f"{user},{item},{category},{_NAMES_OF_CODES[behavior]},{timestamp}"


def value_keys(values: Records) -> list[Array]:
    """What [n] declared values are ordered by, the last key first, as numpy takes them."""
    columns = [values[name] for name in values.dtype.names or ()]
    return [key for column in reversed(columns) for key in column.reshape(len(column), -1).T[::-1]]


def _order(rows: Records, with_values: bool) -> Int64Array:
    """The order of :func:`sort_partition`, equal rows as they stand."""
    user, time = id_hash(rows["user"]), rows["timestamp"]
    # Most logs hold a user's events in order of time, and then there is little to sort.
    order = np.argsort(user, kind="stable")
    same_user = user[order][1:] == user[order][:-1]
    if (same_user & (time[order][1:] < time[order][:-1])).any():
        order = np.lexsort((time, user))
    tied = np.zeros(len(rows), dtype=bool)
    same_second = same_user & (time[order][1:] == time[order][:-1])
    tied[1:] |= same_second
    tied[:-1] |= same_second
    subset = order[tied]
    keys = [*(rows[name][subset] for name in ("category", "behavior", "item", "timestamp")), user[subset]]
    keys = (value_keys(rows["values"][subset]) if with_values else []) + keys
    order[tied] = subset[np.lexsort(keys)]
    return order
