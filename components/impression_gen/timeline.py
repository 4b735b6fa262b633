"""When the splits begin, and which stretch of time a worker draws contemporaneous negatives from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ctr.components.impression_gen.events import Records
from ctr.components.settings import IngestConfig
from ctr.models.arrays import Int64Array
from ctr.models.errors import DataError
from ctr.models.impression import EVAL_SPLIT, SPLITS, VALIDATION_SPLIT
from ctr.models.section import Record

AFTER_ALL = 2**63 - 1


class Timeline(Record):
    """Times in Unix seconds, derived from the number of events in each second alone.

    A split is train before ``validation_start``, validation before ``eval_start``, and eval from there on.
    Bucket i answers for impressions from ``bucket_starts[i]`` to before ``bucket_starts[i + 1]`` and sees
    the events before ``bucket_ends[i]``, which reaches into the next buckets.
    """

    validation_start: int
    eval_start: int
    bucket_starts: tuple[int, ...]
    bucket_ends: tuple[int, ...]
    busiest_second: float
    """Share of the events in the second with the most."""

    def splits(self, timestamps: Int64Array) -> Int64Array:
        """The index into ``SPLITS`` of each timestamp [n]."""
        return np.searchsorted([self.validation_start, self.eval_start], timestamps, side="right")

    def split_ends(self, timestamps: Int64Array) -> Int64Array:
        """The first second [n] after the split of each timestamp [n]."""
        return np.array([self.validation_start, self.eval_start, AFTER_ALL])[self.splits(timestamps)]

    def buckets(self, timestamps: Int64Array) -> Int64Array:
        """The bucket [n] that answers for each timestamp [n]."""
        return np.searchsorted(self.bucket_starts, timestamps, side="right") - 1

    def buckets_reached(self, timestamps: Int64Array) -> Iterator[tuple[Int64Array, Int64Array]]:
        """Yields (index into the timestamps, bucket that sees it), until each has met all buckets that see it."""
        own = self.buckets(timestamps)
        first = np.searchsorted(self.bucket_ends, timestamps, side="right")
        index = np.arange(len(timestamps))
        back = 0
        while len(index := index[own[index] - back >= first[index]]):
            yield index, own[index] - back
            back += 1


def make_timeline(seconds: Records, ingest: IngestConfig) -> Timeline:
    """Places the boundaries.

    eval_start is the earliest second with events such that at most ``eval_share`` of all events are at or
    after it; validation_start likewise with ``eval_share + validation_share``.

    Args:
      seconds: [n] SECOND_COUNT, the events kept, each second once.
      ingest: the shares, the number of buckets (``user_partitions``) and how far a draw reaches.

    Raises:
      DataError: if a split would have no event.
    """
    seconds = seconds[np.argsort(seconds["second"])]
    times, events = seconds["second"], seconds["events"]
    total = int(events.sum())
    before = np.cumsum(events) - events
    starts = []
    for share in (ingest.eval_share + ingest.validation_share, ingest.eval_share):
        candidates = np.flatnonzero(total - before <= share * total)
        starts.append(int(times[candidates[0]]) if len(candidates) else AFTER_ALL)
    validation_start, eval_start = starts
    empty = [
        name
        for name, has_events in zip(
            SPLITS,
            (total and times[0] < validation_start, validation_start < eval_start, eval_start < AFTER_ALL),
            strict=True,
        )
        if not has_events
    ]
    if empty:
        raise DataError(
            f"ingest: {total} events in {len(times)} distinct seconds leave nothing for {' and '.join(empty)}; give a "
            f"longer log, or larger shares (ingest.{VALIDATION_SPLIT}_share, ingest.{EVAL_SPLIT}_share)"
        )
    quantiles = np.arange(ingest.user_partitions) * total // ingest.user_partitions
    first_rows = np.unique(np.searchsorted(before, quantiles, side="right") - 1)
    # Whole seconds go into a bucket, so the reach counts from the next bucket's first second.
    next_rows = np.append(first_rows[1:], len(times))
    reached = np.append(before, total)[next_rows] + ingest.contemporaneous_events
    end_rows = np.searchsorted(before, reached, side="left")
    ends = np.append(times, AFTER_ALL)[end_rows]
    return Timeline(
        validation_start=validation_start,
        eval_start=eval_start,
        bucket_starts=tuple(int(t) for t in times[first_rows]),
        bucket_ends=tuple(int(t) for t in ends),
        busiest_second=float(events.max() / total),
    )
