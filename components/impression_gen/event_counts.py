"""Counts of the events of an item, or of a category, before a time.

The times of each id's events lie sorted, in one file for items and one for categories that every worker maps into its
memory: 4 bytes an event in each. A count is the distance of two places in them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa

from ctr.components.counting import ALL, COUNTED_FIELDS, CountedField, CountsConfig, Window
from ctr.components.examples.event_counts import EventCounts
from ctr.components.impression_gen import progress
from ctr.components.impression_gen.events import Records
from ctr.components.impression_gen.spool import Parcel, Spool
from ctr.components.lookup import find
from ctr.components.settings import IngestConfig
from ctr.models.arrays import Array, Int64Array
from ctr.models.impression import BEHAVIORS

TIMED: Final = np.dtype([("id", "<i8"), ("second", "<u4")])
"""An event of an id; seconds count from the first one of the window."""

SECONDS: Final = np.dtype("<u4")
_SPAN: Final = np.dtype([("id", "<i8"), ("start", "<i8"), ("end", "<i8")])
"""Where the seconds of an id lie."""
_COLUMNS: Final = (*(_SPAN[name] for name in _SPAN.names or ()), SECONDS)
_OF_SECOND: Final = np.int64(2**32)

Kept = tuple[Parcel, Parcel]
"""Of a range of the ids of a field: SPANs, ids rising, and SECONDS."""
Joined = list[Parcel]
"""Of a field: a column of :class:`EventIndex` each."""


class EventIndex(NamedTuple):
    """When the events of each id were."""

    ids: Int64Array
    """[k], rising."""
    starts: Int64Array
    """[k] first place of an id in ``seconds``."""
    ends: Int64Array
    """[k] the place after its last."""
    seconds: Array
    """[m] uint32 since the beginning of the window; of each id not falling."""

    def counts(self, ids: Int64Array, before: Int64Array, windows: Iterable[Window]) -> list[Int64Array]:
        """Events of an id in each window that ends before a second.

        Args:
          ids: [n]; one without events has 0 of them.
          before: [n] seconds since the beginning of the log's window. What happened in that second does not count.
          windows: seconds, or ``all``.

        Returns:
          [n] for each window: the events of ``before - window`` or later.
        """
        place, known = find(self.ids, ids)
        start, end = (np.where(known, of[place] if of.size else 0, 0) for of in (self.starts, self.ends))
        end = self._first_from(start, end, before)
        return [end - (start if w == ALL else self._first_from(start, end, before - int(w))) for w in windows]

    def _first_from(self, low: Int64Array, high: Int64Array, second: Int64Array) -> Int64Array:
        """The first place [n] of those from ``low`` to before ``high`` [n] that is of ``second`` [n] or later."""
        low, high = low.copy(), high.copy()
        # numpy's own search is of one array, and a key of an id and a second takes twice the bytes.
        open_ = np.flatnonzero(low < high)
        while open_.size:
            middle = (low[open_] + high[open_]) >> 1
            earlier = self.seconds[middle] < second[open_]
            low[open_[earlier]] = middle[earlier] + 1
            high[open_[~earlier]] = middle[~earlier]
            open_ = open_[low[open_] < high[open_]]
        return low


class CandidateCounts(NamedTuple):
    """Counts of candidates, as their features hold them."""

    config: CountsConfig
    window_start: int
    """Unix time that seconds of the indices count from."""
    indices: Mapping[CountedField, EventIndex]

    def of(self, candidates: Mapping[str, Int64Array], timestamps: Int64Array) -> dict[str, Int64Array]:
        """Name of a count -> [n], of the fields of candidates [n] that are shown at Unix times [n]."""
        before = timestamps - self.window_start
        counts = [
            count
            for field, index in self.indices.items()
            for count in index.counts(candidates[field], before, self.config.windows(field))
        ]
        return {count.name: values for count, values in zip(self.config.counts, counts, strict=True)}


def times_of(events: Records, field: CountedField, ingest: IngestConfig) -> Records:
    """The events that are counted, [m] :data:`TIMED`, of [n] ``values.event_type``."""
    if kinds := ingest.counts.behaviors:
        events = events[np.isin(events["behavior"], [BEHAVIORS[kind] for kind in kinds])]
    times = np.empty(len(events), TIMED)
    times["id"] = events[field]
    times["second"] = events["timestamp"] - ingest.window[0]
    return times


def sorted_times(times: Records) -> tuple[Records, Array]:
    """Orders [m] :data:`TIMED`: SPANs [k] of ids, rising, and [m] uint32 seconds."""
    coded = pa.array(np.ascontiguousarray(times["id"])).dictionary_encode()
    ids, codes = coded.dictionary.to_numpy(), coded.indices.to_numpy()
    order = np.argsort(ids)
    rank = np.empty(len(ids), np.int64)
    rank[order] = np.arange(len(ids))
    # One sort of numbers takes a fraction of one by two keys.
    keys = rank[codes] * _OF_SECOND + times["second"]
    keys.sort()
    spans = np.empty(len(ids), _SPAN)
    spans["id"] = ids[order]
    spans["end"] = np.cumsum(np.bincount(rank[codes], minlength=len(ids)))
    spans["start"][:1], spans["start"][1:] = 0, spans["end"][:-1]
    return spans, (keys % _OF_SECOND).astype(SECONDS)


def join_times(
    ranges: Iterable[tuple[int, Kept]], ingest: IngestConfig, spool: Spool, catalogue_uri: str
) -> list[Joined]:
    """Joins all ranges to one file, and writes what is served: the counts right after the last event that is counted.

    Args:
      ranges: number of a range, counted on from field to field, and what is kept of it; in any order.
      ingest: the settings.
      spool: gets the file.
      catalogue_uri: gets ``item_events.tsv`` and ``category_events.tsv``, of the fields that are counted.

    Returns:
      of each such field what :func:`open_counts` opens.
    """
    by_number = sorted(ranges)
    joined: list[Joined] = []
    for number, field in enumerate(COUNTED_FIELDS):
        if not ingest.counts.windows(field):
            continue
        of_field = [kept for key, kept in by_number if key // ingest.user_partitions == number]
        spans = []
        with spool.file(progress.TIME) as write:
            written = 0
            first = ("", 0, 0)
            for of_ids, of_seconds in of_field:
                rows = np.frombuffer(spool.read(of_ids), _SPAN).copy()
                rows["start"] += written
                rows["end"] += written
                spans.append(rows)
                name, start, length = write(spool.read(of_seconds))
                written += length // SECONDS.itemsize
                first = first if first[0] else (name, start, 0)
            rising = np.concatenate(spans) if spans else np.empty(0, _SPAN)
            rising = rising[np.argsort(rising["id"])]
            columns = [write(np.ascontiguousarray(rising[name]).tobytes()) for name in _SPAN.names or ()]
            joined.append([*columns, (first[0], first[1], written * SECONDS.itemsize)])
    counts = open_counts(joined, ingest, spool)
    end = 1 + max((int(index.seconds.max(initial=0)) for index in counts.indices.values()), default=0)
    for field, index in counts.indices.items():
        counted = index.counts(index.ids, np.full(len(index.ids), end), ingest.counts.windows(field))
        EventCounts(index.ids, np.stack(counted, axis=1)).write(catalogue_uri, field)
    return joined


def open_counts(joined: Iterable[Joined], ingest: IngestConfig, spool: Spool) -> CandidateCounts:
    """Opens what :func:`join_times` gave."""
    fields = [field for field in COUNTED_FIELDS if ingest.counts.windows(field)]
    indices = {
        field: EventIndex(*(spool.map(each, kind) for each, kind in zip(columns, _COLUMNS, strict=True)))
        for field, columns in zip(fields, joined, strict=True)
    }
    return CandidateCounts(ingest.counts, ingest.window[0], indices)
