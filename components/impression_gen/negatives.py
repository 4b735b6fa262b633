"""Draws negatives: reproducible, without repetition, never an item of the user's own log unless it is a revisit.

Every draw is a walk over a pool of m places: ``(start + k * step) mod m`` for k = 0, 1, ..., where start
and step come from a hash of (seed, user, timestamp, item, behaviour, stream, kind) and step has no factor in
common with m. So the walk visits every place once, its first place is uniform, and it is the same
whoever computes it. The first places that are admissible are taken; a draw is impossible only if the pool is
exhausted.

A revisit negative is what its user chose before and did not choose now. Its pool is the impression's own history as it
is stored, event by event: an item counts as often as it stands there.

Contemporaneous negatives are proposed where the log's events around that time are (:func:`propose`) and
admitted where the user's own log is (:func:`admit`). Of each impression at most
:data:`SPARE_PROPOSALS` more proposals than needed travel; should the user's own log hold so many of them that
too few are left, the draw counts as impossible although the window may hold another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ctr.components.examples.catalogue import Catalogue
from ctr.components.impression_gen.events import EventColumns, Records
from ctr.components.impression_gen.hashing import hash_columns, splitmix64
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.lookup import find
from ctr.components.settings import IngestConfig
from ctr.models.arrays import BoolArray, Int64Array, UInt64Array
from ctr.models.impression import NEGATIVE_SETS, PADDING_ID, NegativeSet

SPARE_PROPOSALS: Final = 5
_NEVER: Final = 2**62

TRAINING_STREAM: Final = 0
EVALUATION_STREAM: Final = 1
"""Hash streams: what training draws says nothing about what evaluation draws."""
_FLIP_STREAM: Final = 2

REQUEST: Final = np.dtype([("index", "<u4"), ("user", "<i8"), ("timestamp", "<i8"), ("hash", "<u8"), ("wanted", "<u2")])
"""An impression, known by its index among its partition's targets, that wants so many proposals."""


def proposal(width: int) -> np.dtype[Any]:
    """The answer to a REQUEST: up to ``width`` items and their logged categories, then PADDING_ID."""
    return np.dtype([("index", "<u4"), ("items", "<i8", (width,)), ("categories", "<i8", (width,))])


def draw_hashes(events: Records, seed: int, stream: int | Int64Array, kind: NegativeSet) -> UInt64Array:
    """The hash [n] that a kind of draw for each positive [n] starts from; the stream may be another for each."""
    return hash_columns(
        seed, events["user"], events["timestamp"], events["item"], events["behavior"], stream, NEGATIVE_SETS.index(kind)
    )


def flip_hashes(events: Records, seed: int) -> UInt64Array:
    """The hash [n] that decides whether an impression [n] shows its positive or its negative."""
    return hash_columns(seed, events["user"], events["timestamp"], events["item"], events["behavior"], _FLIP_STREAM, 0)


class OwnLog:
    """Whether an item stands in a user's own log.

    Pairs are known by a 64-bit hash: an item that is not there passes for one with probability n / 2**64, n the events.

    Args:
      events: all kept events of the users asked about.
    """

    def __init__(self, events: Records) -> None:
        self._pairs = np.sort(hash_columns(0, events["user"], events["item"]))

    def holds(self, users: Int64Array, items: Int64Array) -> BoolArray:
        """For users [n] of the log and any items [n]."""
        return find(self._pairs, hash_columns(0, users, items))[1]


class Candidates:
    """The candidates of n impressions as they fill up, each impression without repetition.

    Args:
      items: [n] items that come first.
      categories: [n] their categories.
      width: candidates an impression gets in the end.
    """

    def __init__(self, items: Int64Array, categories: Int64Array, width: int) -> None:
        self.items = np.full((len(items), width), PADDING_ID, dtype=np.int64)
        self.categories = np.full((len(items), width), PADDING_ID, dtype=np.int64)
        self.items[:, 0] = items
        self.categories[:, 0] = categories
        self.filled = np.ones(len(items), dtype=np.int64)

    def add(self, rows: Int64Array, items: Int64Array, categories: Int64Array, admissible: BoolArray) -> None:
        """Adds an item [m] to each of the rows [m] where it is admissible and not there yet."""
        new = admissible & ~(self.items[rows] == items[:, None]).any(axis=1)
        rows = rows[new]
        self.items[rows, self.filled[rows]] = items[new]
        self.categories[rows, self.filled[rows]] = categories[new]
        self.filled[rows] += 1


class Walk:
    """n walks, each over the places 0 .. size - 1 of its own pool.

    Args:
      hashes: [n] what decides them.
      sizes: [n] places; 0 for an empty pool, whose walk must not be asked.
    """

    def __init__(self, hashes: UInt64Array, sizes: Int64Array) -> None:
        self._sizes = np.maximum(sizes, 1)
        modulus = self._sizes.astype(np.uint64)
        self._start = (hashes % modulus).astype(np.int64)
        self._step = 1 + (splitmix64(hashes) % modulus).astype(np.int64)
        while (common := np.gcd(self._step, self._sizes) != 1).any():
            self._step[common] += 1

    def place(self, rows: Int64Array, k: int) -> Int64Array:
        """The k-th place [m] of each of the walks ``rows`` [m]."""
        # Below 2**63 for pools of up to 2**31 places.
        place: Int64Array = (self._start[rows] + k * self._step[rows]) % self._sizes[rows]
        return place


def _fill(
    candidates: Candidates,
    goal: Int64Array,
    hashes: UInt64Array,
    sizes: Int64Array,
    drawn: Callable[[Int64Array, Int64Array], tuple[Int64Array, Int64Array, BoolArray]],
) -> None:
    """Walks over the pools of n impressions until each has its goal of candidates or its pool is exhausted.

    Args:
      candidates: of n impressions.
      goal: [n] candidates that each is to have.
      hashes: [n], see :func:`draw_hashes`.
      sizes: [n] of the pools.
      drawn: gives items, their categories and whether they are admissible, each [m], of some impressions [m] and a
        place [m] in the pool of each.
    """
    walk = Walk(hashes, sizes)
    active = np.flatnonzero((candidates.filled < goal) & (sizes > 0))
    k = 0
    while len(active):
        candidates.add(active, *drawn(active, walk.place(active, k)))
        k += 1
        active = active[(candidates.filled[active] < goal[active]) & (sizes[active] > k)]


def draw_from_catalogue(
    candidates: Candidates,
    count: int,
    hashes: UInt64Array,
    catalogue: Catalogue,
    pool: tuple[Int64Array, Int64Array, Int64Array],
    users: Int64Array,
    own_log: OwnLog,
) -> None:
    """Adds ``count`` catalogue items to each impression, fewer if its pool has no more.

    Args:
      candidates: of n impressions.
      count: negatives to add.
      hashes: [n], see :func:`draw_hashes`.
      catalogue: the items.
      pool: (rows of the catalogue in the order of pools, first of each impression's pool [n], its size [n]).
      users: [n]
      own_log: of those users.
    """
    rows_of_catalogue, first, size = pool

    def drawn(active: Int64Array, place: Int64Array) -> tuple[Int64Array, Int64Array, BoolArray]:
        row = rows_of_catalogue[first[active] + place]
        items = catalogue.item_ids[row]
        return items, catalogue.item_categories[row], ~own_log.holds(users[active], items)

    _fill(candidates, candidates.filled + count, hashes, size, drawn)


def draw_from_history(
    candidates: Candidates, count: int, hashes: UInt64Array, events: EventColumns, start: Int64Array, end: Int64Array
) -> None:
    """Adds ``count`` items of its own history to each impression, fewer if it holds no more beside the positive.

    Args:
      candidates: of n impressions.
      count: negatives to add.
      hashes: [n], see :func:`draw_hashes`.
      events: of the partition.
      start: [n] index of the first event of each history.
      end: [n] index after its last one.
    """

    def drawn(active: Int64Array, place: Int64Array) -> tuple[Int64Array, Int64Array, BoolArray]:
        event = start[active] + place
        return events.item[event], events.category[event], np.ones(len(event), dtype=bool)

    _fill(candidates, candidates.filled + count, hashes, end - start, drawn)


class CatalogueIndex:
    """A catalogue and where its items of each category are."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self._all = np.arange(len(catalogue.item_ids))
        self._by_category = np.argsort(catalogue.item_categories, kind="stable")
        self._sorted_categories = catalogue.item_categories[self._by_category]

    def whole(self, categories: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """The pools of uniform draws, whatever the category [n]."""
        return self._all, np.zeros(len(categories), np.int64), np.full(len(categories), len(self._all))

    def of_category(self, categories: Int64Array) -> tuple[Int64Array, Int64Array, Int64Array]:
        """The pools of draws among the items of each category [n]."""
        first = np.searchsorted(self._sorted_categories, categories, side="left")
        last = np.searchsorted(self._sorted_categories, categories, side="right")
        return self._by_category, first, last - first


def propose(events: Records, requests: Records, timeline: Timeline, ingest: IngestConfig, width: int) -> Records:
    """Proposes contemporaneous negatives.

    The pool of an impression at time t is the next ``contemporaneous_events`` events of the log with a time
    above t, before the end of the split of t, in the order of (timestamp, hash of the user, item, behaviour, category).
    Events of the same user and items already proposed are passed over.

    Args:
      events: [m] EVENT, all that the pools of the requests can hold: some of each partition's, as ``sort_partition``
        orders them, partition after partition.
      requests: [n] REQUEST.
      timeline: when splits end.
      ingest: how far a pool reaches.
      width: of the result, at least ``wanted`` of each request.

    Returns:
      [n] :func:`proposal`, in the order of the requests.
    """
    log = EventColumns.of(events[_by_time(events["timestamp"])])
    times = requests["timestamp"]
    first = np.searchsorted(log.timestamp, times, side="right")
    split_end = np.searchsorted(log.timestamp, timeline.split_ends(times), side="left")
    size = np.minimum(first + ingest.contemporaneous_events, split_end) - first
    nothing = np.full(len(requests), PADDING_ID)
    found = Candidates(nothing, nothing, 1 + width)

    def drawn(active: Int64Array, place: Int64Array) -> tuple[Int64Array, Int64Array, BoolArray]:
        event = first[active] + place
        return log.item[event], log.category[event], log.user[event] != requests["user"][active]

    _fill(found, 1 + requests["wanted"].astype(np.int64), requests["hash"], size, drawn)
    answer = np.empty(len(requests), proposal(width))
    answer["index"] = requests["index"]
    answer["items"] = found.items[:, 1:]
    answer["categories"] = found.categories[:, 1:]
    return answer


def _by_time(timestamps: Int64Array) -> Int64Array:
    since = timestamps - timestamps.min(initial=_NEVER)
    # numpy sorts 16 bits by radix, and a stretch of time mostly has fewer seconds.
    return np.argsort(since.astype(np.uint16) if since.max(initial=0) < 1 << 16 else since, kind="stable")


def admit(candidates: Candidates, count: int, proposals: Records, users: Int64Array, own_log: OwnLog) -> None:
    """Adds the first ``count`` proposals to each impression that are not in its user's own log.

    Args:
      candidates: of n impressions.
      count: negatives to add; fewer are added where too few are admissible.
      proposals: [n] :func:`proposal`, row i for impression i.
      users: [n]
      own_log: of those users.
    """
    goal = candidates.filled + count
    for k in range(proposals["items"].shape[1]):
        items = proposals["items"][:, k]
        active = np.flatnonzero((candidates.filled < goal) & (items != PADDING_ID))
        admissible = ~own_log.holds(users[active], items[active])
        candidates.add(active, items[active], proposals["categories"][active, k], admissible)
