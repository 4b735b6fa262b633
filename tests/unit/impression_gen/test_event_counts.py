"""Counts of events before a time: against counting one by one, and that nothing later changes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.counting import ALL, COUNTED_FIELDS, CountedField, CountsConfig, Window
from ctr.components.examples.event_counts import EventCounts
from ctr.components.impression_gen.build import SortTimes, TimeEvents
from ctr.components.impression_gen.event_counts import (
    TIMED,
    CandidateCounts,
    EventIndex,
    join_times,
    open_counts,
    sorted_times,
    times_of,
)
from ctr.components.impression_gen.events import EVENT, Records
from ctr.components.impression_gen.spool import Spool
from ctr.components.settings import IngestConfig
from ctr.models.impression import BEHAVIORS

START = IngestConfig().window[0]
WINDOWS: tuple[Window, ...] = (1, 5, 40, "all")
ROWS = st.lists(st.tuples(*[st.integers(1, 4)] * 3, st.integers(1, 4), st.integers(0, 60)), max_size=60)
ASKED = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 61)), min_size=1, max_size=20)


def events_of(rows: list[tuple[int, ...]]) -> Records:
    events = np.array(rows, EVENT)
    events["timestamp"] += START
    return events


def index_of(events: Records, field: CountedField, ingest: IngestConfig) -> EventIndex:
    spans, seconds = sorted_times(times_of(events, field, ingest))
    return EventIndex(spans["id"], spans["start"], spans["end"], seconds)


def counted(rows: list[tuple[int, ...]], place: int, key: int, before: int, window: Any) -> int:
    first = -1 if window == ALL else before - window
    return sum(row[place] == key and first <= row[4] < before for row in rows)


@settings(deadline=None)
@given(ROWS, ASKED, st.sampled_from(COUNTED_FIELDS), st.sampled_from([None, ("buy",), ("pv", "fav")]))
def test_counts_are_those_of_counting_one_by_one(
    rows: list[tuple[int, ...]], asked: list[tuple[int, int]], field: CountedField, kinds: Any
) -> None:
    config = CountsConfig.model_validate({field: WINDOWS, "behaviors": kinds})
    index = index_of(events_of(rows), field, IngestConfig(counts=config))
    ids, before = np.array(asked).T
    rows = [row for row in rows if kinds is None or row[3] in {BEHAVIORS[kind] for kind in kinds}]
    place = {"item": 1, "category": 2}[field]
    for window, counts in zip(WINDOWS, index.counts(ids, before, WINDOWS), strict=True):
        assert counts.tolist() == [counted(rows, place, key, time, window) for key, time in asked]


@settings(deadline=None)
@given(ROWS, ROWS, st.integers(0, 61))
def test_what_is_at_the_time_or_later_changes_nothing(
    before: list[tuple[int, ...]], other: list[tuple[int, ...]], time: int
) -> None:
    past = [row for row in before if row[4] < time]
    later = [(*row[:4], time + row[4]) for row in other]
    ids = np.arange(1, 6)
    found = [
        index_of(events_of(rows), "item", IngestConfig()).counts(ids, np.full(5, time), WINDOWS)
        for rows in (past, past + later)
    ]
    np.testing.assert_array_equal(found[0], found[1])


def steps(events: Records, ingest: IngestConfig, folder: Path, reverse: bool) -> tuple[CandidateCounts, Path]:
    """The ingest's steps on some partitions of users, in one order or the other."""
    spool = Spool(str(folder / "spool"))
    groups: dict[int, list[Any]] = {}
    for partition in range(3):
        with spool.file("events") as write:
            parcel = write(events[events["user"] % 3 == partition].tobytes())
        for key, part in TimeEvents(ingest, spool).process((partition, parcel)):
            groups.setdefault(key, []).append(part)
    elements = sorted(groups.items(), reverse=reverse)
    merged = [
        each for key, parts in elements for each in SortTimes(ingest, spool).process((key, parts[:: 1 - 2 * reverse]))
    ]
    joined = join_times(merged, ingest, spool, str(folder / "catalogue"))
    return open_counts(joined, ingest, spool), folder / "catalogue"


@pytest.mark.parametrize("counts", [{"item": [7, ALL], "category": [30]}, {"category": [ALL]}, {"item": [3]}])
def test_counts_do_not_depend_on_partitions_and_order(counts: dict[str, Any], tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    ids = draw.zipf(1.6, (2, 500)) % 50 + 1
    rows = np.stack([draw.integers(1, 30, 500), *ids, np.ones(500, int), draw.integers(0, 60, 500)], axis=1)
    events = events_of([tuple(row) for row in rows.tolist()])
    config = CountsConfig.model_validate(counts)
    shown = {"item": draw.integers(1, 60, 99), "category": draw.integers(1, 60, 99)}
    times = draw.integers(0, 62, 99)
    catalogues, found = [], []
    for partitions, reverse in ((1, False), (4, True)):
        ingest = IngestConfig(counts=config, user_partitions=partitions)
        of, catalogue = steps(events, ingest, tmp_path / str(partitions), reverse)
        found.append(of.of(shown, times + START))
        catalogues.append({path.name: path.read_bytes() for path in catalogue.iterdir()})
    assert [*found[0]] == [count.name for count in config.counts]
    for count in config.counts:
        place = {"item": 1, "category": 2}[count.field]
        asked = zip(shown[count.field], times, strict=True)
        expected = [counted(rows.tolist(), place, key, time, count.window) for key, time in asked]
        assert found[0][count.name].tolist() == found[1][count.name].tolist() == expected
    assert catalogues[0] == catalogues[1]
    for field in {count.field for count in config.counts}:
        names = [count.name for count in config.counts if count.field == field]
        written = EventCounts.read(str(tmp_path / "1/catalogue"), field, names)
        place = {"item": 1, "category": 2}[field]
        end = rows[:, 4].max() + 1
        for key, of_key in zip(written.ids.tolist(), written.counts.tolist(), strict=True):
            assert of_key == [counted(rows.tolist(), place, key, end, window) for window in config.windows(field)]
        assert (written.counts.sum(axis=0) > 0).all()


def test_a_log_without_events_has_counts_of_nothing(tmp_path: Path) -> None:
    ingest = IngestConfig(counts=CountsConfig(item=(ALL,)))
    of, _ = steps(np.empty(0, EVENT), ingest, tmp_path, False)
    found = of.of({"item": np.array([1, 2])}, np.array([START, START]))
    assert found["item_events_all"].tolist() == [0, 0]
    assert not sorted_times(np.empty(0, TIMED))[0].size
