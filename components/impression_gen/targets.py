"""Which events become impressions, and which events each may look back on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ctr.components.examples.summary import NOT_A_TARGET_BEHAVIOR, OVER_TARGETS_PER_USER, SHORT_HISTORY
from ctr.components.impression_gen.events import Records
from ctr.components.impression_gen.timeline import Timeline
from ctr.components.lookup import starts_run
from ctr.components.settings import IngestConfig
from ctr.models.arrays import Array, BoolArray, Int64Array
from ctr.models.impression import BEHAVIORS, SPLITS


@dataclass(frozen=True, eq=False)
class Targets:
    """The positives of one partition, in the order of its events."""

    event: Int64Array
    """[n] index of the positive among the partition's events."""
    split: Int64Array
    """[n] index into ``SPLITS``."""
    history_start: Int64Array
    """[n] index of the first event of the history."""
    history_end: Int64Array
    """[n] index after its last one; all of them are strictly earlier than the positive."""
    dropped: dict[tuple[str, str], int]
    """(split, reason) -> events that are no target."""


def last_of_user(events: Records) -> BoolArray:
    """Which of a partition's events [m], in order of user and time, are the last of their user."""
    return starts_run(events["user"][::-1])[::-1]


def latest_of_each(users: Array, splits: Int64Array, most: int | None) -> BoolArray:
    """Which of n targets, in order of user and time, are among the latest so many of their user and split."""
    if most is None or not len(users):
        return np.ones(len(users), bool)
    group_ends = (users[1:] != users[:-1]) | (splits[1:] != splits[:-1])
    last_of_group = np.append(np.flatnonzero(group_ends), len(users) - 1)
    group = np.concatenate([[0], np.cumsum(group_ends)])
    latest: BoolArray = last_of_group[group] - np.arange(len(users)) < most
    return latest


def find_targets(events: Records, timeline: Timeline, ingest: IngestConfig) -> Targets:
    """Picks the positives of a partition.

    An event is a target if its behaviour is one of ``target_kinds``, at least ``min_history`` events of
    its user are strictly earlier, and it is among the user's latest ``targets_per_user`` such events of its
    split; with ``targets`` "last", if it is the user's last event of all. The history is the user's latest
    ``history_length`` events strictly earlier, of any behaviour.

    Args:
      events: [m] EVENT as ``sort_partition`` orders them.
      timeline: when the splits begin.
      ingest: the settings named above.
    """
    index = np.arange(len(events))
    users, times = events["user"], events["timestamp"]
    user_start = np.maximum.accumulate(np.where(starts_run(users), index, 0))
    second_start = np.maximum.accumulate(np.where(starts_run(users, times), index, 0))
    splits = timeline.splits(times)

    right_behavior = np.isin(events["behavior"], [BEHAVIORS[name] for name in ingest.target_kinds])
    enough_history = second_start - user_start >= ingest.min_history
    chosen = np.flatnonzero(right_behavior & enough_history)
    if ingest.targets == "last":
        last = last_of_user(events)[chosen]
        chosen, over = chosen[last], chosen[~last]
    else:
        latest = latest_of_each(users[chosen], splits[chosen], ingest.targets_per_user)
        chosen, over = chosen[latest], chosen[~latest]

    dropped = {}
    for reason, lost in (
        (NOT_A_TARGET_BEHAVIOR, splits[~right_behavior]),
        (SHORT_HISTORY, splits[right_behavior & ~enough_history]),
        (OVER_TARGETS_PER_USER, splits[over]),
    ):
        for split, count in zip(SPLITS, np.bincount(lost, minlength=len(SPLITS)), strict=True):
            dropped[split, reason] = int(count)

    return Targets(
        event=chosen,
        split=splits[chosen],
        history_start=np.maximum(user_start[chosen], second_start[chosen] - ingest.history_length),
        history_end=second_start[chosen],
        dropped=dropped,
    )
