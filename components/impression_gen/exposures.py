"""Exposures: what was shown at once is an impression's candidates, in the order shown, and what was clicked its labels.

A partition's events are put in another order for this: first those that happened, that is, clicks and events of other
kinds, as ``sort_partition`` orders them, so that a history is a range of them; behind them what was shown in vain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from ctr.components.examples.summary import OVER_TARGETS_PER_USER, SHORT_HISTORY
from ctr.components.impression_gen.events import (
    CLICKED,
    DUPLICATE_EVENT,
    NOT_CLICKED,
    NOT_SHOWN,
    PLACE,
    EventColumns,
    Records,
    open_chunk,
    pack_chunk,
    plain,
)
from ctr.components.impression_gen.hashing import id_hash
from ctr.components.impression_gen.negatives import Candidates
from ctr.components.impression_gen.targets import Targets, latest_of_each
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.lookup import find, starts_run
from ctr.components.settings import IngestConfig
from ctr.models.arrays import BoolArray, Int64Array
from ctr.models.impression import SPLITS

# --- requests that contradict themselves ---------------------------------------------------------------------------

REQUEST_ROW: Final = np.dtype([("request", "<i8"), ("user", "<i8"), ("timestamp", "<i8"), ("place", PLACE)])
"""A user and a second that stand in a row of a request, and where they do so first."""


def request_rows(source: int, block: int, rows: Records) -> Records:
    """The requests, users and seconds of a block's exposures, [n] REQUEST_ROW, each once; none of those without id."""
    rows = rows[(rows["request"] != 0) & (rows["shown"] != NOT_SHOWN)]
    names = ("request", "user", "timestamp")
    rows = rows[np.lexsort([rows[name] for name in ("line", *reversed(names))])]
    rows = rows[starts_run(*(rows[name] for name in names))]
    found = np.empty(len(rows), REQUEST_ROW)
    for name in names:
        found[name] = rows[name]
    found["place"]["source"], found["place"]["block"], found["place"]["line"] = source, block, rows["line"]
    return found


def contradictory(rows: Records) -> Records:
    """Of all REQUEST_ROWs of some requests, the first in the log of each request of several users or seconds, by id."""
    place = rows["place"]
    rows = rows[np.lexsort([place[name] for name in ("line", "block", "source")] + [rows["request"]])]
    begins = starts_run(rows["request"])
    first = np.maximum.accumulate(np.where(begins, np.arange(len(rows)), 0))
    other = (rows["user"] != rows["user"][first]) | (rows["timestamp"] != rows["timestamp"][first])
    found: Records = rows[np.unique(first[other])]
    return found


def by_id(packed: bytes) -> Records:
    """What :func:`contradictory` found, packed, of several ranges of requests."""
    rows = np.frombuffer(packed, REQUEST_ROW)
    found: Records = rows[np.argsort(rows["request"])]
    return found


def without_contradictory(
    chunks: Iterable[bytes], refused: Records, kind: np.dtype[Any]
) -> tuple[list[bytes], Records]:
    """Takes the rows of contradictory requests out of a partition.

    Args:
      chunks: what ``pack_chunk`` made.
      refused: what :func:`contradictory` found in the whole log, by id.
      kind: of the events.

    Returns:
      The chunks without them, and them, [m] DUPLICATE_EVENT with the place where their request begins.
    """
    kept, dropped = [], [np.empty(0, DUPLICATE_EVENT)]
    for chunk in chunks:
        (source, block), rows = open_chunk(chunk, kind)
        which, wrong = find(refused["request"], rows["request"])
        wrong &= rows["shown"] != NOT_SHOWN
        if not wrong.any():
            kept.append(chunk)
            continue
        kept.append(pack_chunk(source, block, rows[~wrong]))
        found = np.zeros(int(wrong.sum()), DUPLICATE_EVENT)
        found["place"]["source"], found["place"]["block"] = source, block
        found["place"]["line"] = rows["line"][wrong]
        found["first"] = refused["place"][which[wrong]]
        found["event"] = plain(rows[wrong])
        found["of_request"] = True
        dropped.append(found)
    return kept, np.concatenate(dropped)


# --- requests that are impressions ---------------------------------------------------------------------------------

SHOWN_COUNTS: Final = (
    "requests",
    "candidates",
    "clicked",
    "requests_without_click",
    "repeated_candidates",
    "cut_requests",
    "cut_candidates",
)
"""What is counted of the requests of a split; see ``summary.IngestSummary.exposures``."""


@dataclass(frozen=True, eq=False)
class Requests(Targets):
    """The requests of one partition, in the order of users, times and requests. The event of each is its first click,
    or the first thing shown where there is none."""

    shown: Int64Array
    """[n, W] index among the partition's events of each candidate's, in the order shown; -1 behind the last one."""
    clicked: BoolArray
    """[n, W]"""
    counts: dict[tuple[str, str], int]
    """(split, one of :data:`SHOWN_COUNTS`) -> how many, of all requests, whatever becomes of them."""


def happened_first(events: Records) -> Records:
    """A partition's events in the order that this module needs."""
    in_vain = events["shown"] == NOT_CLICKED
    found: Records = np.concatenate([events[~in_vain], events[in_vain]])
    return found


def happened(events: Records) -> Records:
    """Those that are no exposure in vain, of events in that order."""
    found: Records = events[: int((events["shown"] != NOT_CLICKED).sum())]
    return found


def positions(events: Records, ingest: IngestConfig) -> Int64Array | None:
    """[m] where each event's item was shown, as :data:`ctr.components.dataset.POSITION` has it; None without."""
    if ingest.dataset.columns.position is None:
        return None
    return np.minimum(events["position"].astype(np.int64), ingest.exposures)


def find_requests(events: Records, timeline: Timeline, ingest: IngestConfig) -> Requests:
    """Picks the impressions of a partition.

    Of a request, rows of one item at one position are one candidate, clicked if one of them was; where the log has no
    positions, candidates stand in the order of their ids, which says nothing. A request is an impression if at least
    ``min_history`` events of its user happened strictly before it, and it is among the user's latest
    ``targets_per_user`` of its split. The history is the latest ``history_length`` of these events.

    Args:
      events: [m] EXPOSED_EVENT, see :func:`happened_first`.
      timeline: when the splits begin.
      ingest: the settings named above, and ``dataset.exposures.max_candidates``.
    """
    index = np.flatnonzero(events["shown"] != NOT_SHOWN)
    hashes = id_hash(events["user"][index])
    columns = {name: events[name][index] for name in ("shown", "item", "position", "request", "timestamp")}
    columns["shown"] = CLICKED - columns["shown"]
    order = np.lexsort([*columns.values(), hashes])
    index, hashes = index[order], hashes[order]
    _, item, position, request, times = (column[order] for column in columns.values())
    once = starts_run(hashes, times, request, position, item)
    of_request = np.cumsum(starts_run(hashes, times, request)) - 1
    split_of_rows = timeline.splits(times)
    repeated = split_of_rows[~once]
    index, hashes, times, of_request = index[once], hashes[once], times[once], of_request[once]

    begins = starts_run(of_request)
    start = np.flatnonzero(begins)
    size = np.diff(np.append(start, len(index)))
    rank = np.arange(len(index)) - np.repeat(start, size)
    width = min(ingest.exposures, int(size.max(initial=1)))
    shown = np.full((len(start), width), -1)
    kept = rank < width
    shown[of_request[kept], rank[kept]] = index[kept]
    clicked = (shown >= 0) & (events["shown"][shown] == CLICKED)
    hashes, times = hashes[start], times[start]
    splits = timeline.splits(times)
    # argmax is the first click, or the first candidate.
    anchor = shown[np.arange(len(shown)), clicked.argmax(axis=1)] if len(shown) else np.empty(0, np.int64)

    user_start, history_end = _before(happened(events), hashes, times)
    enough = history_end - user_start >= ingest.min_history
    chosen = np.flatnonzero(enough)
    latest = latest_of_each(hashes[chosen], splits[chosen], ingest.targets_per_user)
    dropped = {}
    for reason, lost in ((SHORT_HISTORY, splits[~enough]), (OVER_TARGETS_PER_USER, splits[chosen[~latest]])):
        dropped.update(_by_split(reason, lost))
    counts = {}
    over = np.maximum(size - width, 0)
    for name, of_splits in zip(
        SHOWN_COUNTS,
        (
            splits,
            np.repeat(splits, size - over),
            np.repeat(splits, clicked.sum(axis=1)),
            splits[~clicked.any(axis=1)],
            repeated,
            splits[over > 0],
            np.repeat(splits, over),
        ),
        strict=True,
    ):
        counts.update(_by_split(name, of_splits))
    chosen = chosen[latest]
    return Requests(
        event=anchor[chosen],
        split=splits[chosen],
        history_start=np.maximum(user_start[chosen], history_end[chosen] - ingest.history_length),
        history_end=history_end[chosen],
        dropped=dropped,
        shown=shown[chosen],
        clicked=clicked[chosen],
        counts=counts,
    )


def _by_split(what: str, splits: Int64Array) -> dict[tuple[str, str], int]:
    found = np.bincount(splits, minlength=len(SPLITS))
    return {(split, what): int(count) for split, count in zip(SPLITS, found, strict=True)}


def _before(events: Records, hashes: Any, times: Int64Array) -> tuple[Int64Array, Int64Array]:
    """Of n users' hashes and times, where among events, in order of user and time, the user's first one stands, and the
    first one at that time or later."""
    users = id_hash(events["user"])
    of_events = np.repeat([True, False], [len(events), len(times)])
    order = np.lexsort([of_events, np.concatenate([events["timestamp"], times]), np.concatenate([users, hashes])])
    passed = np.cumsum(of_events[order])
    end = np.empty(len(order), np.int64)
    end[order] = passed
    return np.searchsorted(users, hashes), end[len(events) :]


class Shown(Candidates):
    """What n requests have shown, and room for what is drawn beside it.

    Args:
      requests: of the partition.
      rows: [n] which of them.
      events: of the partition.
      count: negatives that there is room for.
    """

    def __init__(self, requests: Requests, rows: Int64Array, events: EventColumns, count: int) -> None:
        own, room = requests.shown[rows], ((0, 0), (0, count))
        real = own >= 0
        self.items = np.pad(np.where(real, events.item[own], 0), room)
        self.categories = np.pad(np.where(real, events.category[own], 0), room)
        self.filled = real.sum(axis=1)
        self.events = np.pad(own, room, constant_values=-1)
        """[n, W + count] index of each candidate's event, -1 of what is drawn."""
        self.labels = np.pad(requests.clicked[rows], room).astype(np.int64)
        """Likewise, 1 for what was clicked."""
