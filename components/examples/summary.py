"""What ingest did, in numbers that add up."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from typing import Literal

from pydantic import Field

from ctr.components.files import create_file, open_file
from ctr.components.quarantine import OF_SOME_LOGS, REASONS
from ctr.models.impression import BEHAVIORS, EVAL_SPLIT, EVALUATION_SETS, MIXED, NEGATIVE_SETS, SHOWN, SPLITS
from ctr.models.section import Record

SUMMARY_FILE = "summary.json"

SHORT_HISTORY = "short_history"
NOT_A_TARGET_BEHAVIOR = "not_a_target_behavior"
OVER_TARGETS_PER_USER = "over_targets_per_user"
NO_NEGATIVE: dict[str, str] = {kind: f"no_negative:{kind}" for kind in NEGATIVE_SETS}
DROP_REASONS = (NOT_A_TARGET_BEHAVIOR, SHORT_HISTORY, OVER_TARGETS_PER_USER, *NO_NEGATIVE.values())
"""Why an event became no impression; an event has the first that fits."""


class IngestSummary(Record):
    """Counts of one ingest.

    ``rows_read == rows_kept + rows_left_out + sum(quarantined)`` and ``rows_kept == sum(events)``. In train and
    validation ``events == impressions + sum(dropped)``. In eval an event becomes one impression for each negative set:
    ``events == eval_impressions[set] + dropped[no_negative:set] + the other drops`` for each set.
    """

    files: list[str]
    """Logs in the order read; ``archive.zip:member`` for a member."""
    rows_read: int
    rows_kept: int
    rows_left_out: int = 0
    """Of kinds of event that the log's description leaves out."""
    quarantined: dict[str, int]
    """Every reason of ``quarantine.REASONS``; those of ``OF_SOME_LOGS`` where there are such rows."""
    users: int
    validation_start: int
    """Unix second; train is before it."""
    eval_start: int
    events: dict[str, int]
    """Kept events of each split."""
    behaviors: dict[str, dict[str, int]]
    """Split -> kind of event -> kept events."""
    hours: dict[str, dict[int, int]]
    """Split -> hour since 1970, that is, Unix time // 3600 -> kept events; an hour without any is not there."""
    impressions: dict[str, int]
    """Impressions of each split; eval counts one for each negative set."""
    eval_impressions: dict[str, int]
    """Impressions of the eval split with each negative set."""
    dropped: dict[str, dict[str, int]]
    """Split -> reason of ``DROP_REASONS`` -> events."""
    items_with_several_categories: int
    """Among all kept events."""
    exposures: dict[str, dict[str, int]] = Field(default_factory=dict)
    """Of a log of exposures: split -> ``requests``, their ``candidates`` and how many of these were ``clicked``,
    ``requests_without_click``, ``repeated_candidates`` (rows of an item at a position that another row has),
    ``cut_requests`` and ``cut_candidates`` (over ``exposures.max_candidates``). Then requests take the place of events
    above: ``requests == impressions + sum(dropped)``."""

    @classmethod
    def read(cls, uri: str) -> IngestSummary:
        """Reads ``summary.json`` of a catalogue artifact."""
        with closing(open_file(os.path.join(uri, SUMMARY_FILE))) as file:
            return cls.model_validate_json(file.read())

    def write(self, uri: str) -> None:
        """Writes ``summary.json`` into a catalogue artifact's folder."""
        with closing(create_file(os.path.join(uri, SUMMARY_FILE))) as file:
            without = None if self.exposures else {"exposures"}
            file.write(self.model_dump_json(indent=2, exclude=without).encode() + b"\n")


ROWS_READ = "rows_read"
ROWS_LEFT_OUT = "rows_left_out"
USERS = "users"
ITEMS_WITH_SEVERAL_CATEGORIES = "items_with_several_categories"
REPEATED_ITEMS = ("repeated_items", "repeated_items_with_several_categories")
"""As ``plausibility.repeated_items`` counts them."""


Count = Literal[
    "quarantined", "names", "behavior", "events", "behaviors", "hours", "impressions", "dropped", "exposures"
]


def key(kind: Count, *of: str) -> str:
    """Name of a worker's count: quarantined rows of a reason, strings that are ids of a field, kept events of a
    behaviour, of a split, of a split and behaviour or hour, impressions of a split and negative set, events that became
    no impression of a split and reason, what is counted of a split's requests."""
    return "/".join((kind, *of))


def summarise(files: list[str], totals: Mapping[str, int], boundaries: tuple[int, int]) -> IngestSummary:
    """Makes the summary of the workers' summed counts, named as above, a missing one being 0; the boundaries are
    validation_start and eval_start."""
    events = {split: totals.get(key("events", split), 0) for split in SPLITS}
    of_kinds = {kind: totals.get(key("impressions", EVAL_SPLIT, kind), 0) for kind in EVALUATION_SETS}
    eval_impressions = {kind: count for kind, count in of_kinds.items() if kind != SHOWN or count}
    impressions = {split: totals.get(key("impressions", split, MIXED), 0) for split in SPLITS if split != EVAL_SPLIT}
    hours: dict[str, dict[int, int]] = {split: {} for split in SPLITS}
    exposures: dict[str, dict[str, int]] = {}
    for name, count in sorted(totals.items()):
        kind, *of = name.split("/")
        if kind == "hours":
            hours[of[0]][int(of[1])] = count
        if kind == "exposures":
            exposures.setdefault(of[0], {})[of[1]] = count
    return IngestSummary(
        files=files,
        rows_read=totals.get(ROWS_READ, 0),
        rows_kept=sum(events.values()),
        rows_left_out=totals.get(ROWS_LEFT_OUT, 0),
        quarantined={
            reason: count
            for reason in REASONS
            if (count := totals.get(key("quarantined", reason), 0)) or reason not in OF_SOME_LOGS
        },
        users=totals.get(USERS, 0),
        validation_start=boundaries[0],
        eval_start=boundaries[1],
        events=events,
        behaviors={
            split: {name: totals.get(key("behaviors", split, name), 0) for name in BEHAVIORS} for split in SPLITS
        },
        hours=hours,
        impressions={**impressions, EVAL_SPLIT: sum(eval_impressions.values())},
        eval_impressions=eval_impressions,
        dropped={
            split: {reason: totals.get(key("dropped", split, reason), 0) for reason in DROP_REASONS} for split in SPLITS
        },
        items_with_several_categories=totals.get(ITEMS_WITH_SEVERAL_CATEGORIES, 0),
        exposures=exposures,
    )
