from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.impression_gen.events import (
    CLICKED,
    EXPOSED_EVENT,
    LOGGED_EVENT,
    NOT_CLICKED,
    NOT_SHOWN,
    logged,
    pack_chunk,
    sort_partition,
)
from ctr.components.impression_gen.hashing import id_hash

ROW = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 2), st.integers(1, 2), st.integers(0, 4))


@settings(deadline=None)
@given(st.lists(st.lists(ROW, min_size=1, max_size=12), max_size=5), st.randoms())
def test_order_and_duplicates(blocks: list[list[tuple[int, ...]]], random: object) -> None:
    chunks = []
    placed = []
    for number, rows in enumerate(blocks):
        source, block = divmod(number, 2)
        logged = np.array([(*row, 10 + line) for line, row in enumerate(rows)], LOGGED_EVENT)
        chunks.append(pack_chunk(source, block, logged))
        placed += [((source, block, 10 + line), row) for line, row in enumerate(rows)]
    random.shuffle(chunks)  # type: ignore[attr-defined]

    first: dict[tuple[int, ...], tuple[int, int, int]] = {}
    kept, repeated = [], []
    for place, row in placed:
        if row in first:
            repeated.append((place, first[row], row))
        else:
            first[row] = place
            kept.append(row)
    kept.sort(key=lambda row: (int(id_hash(np.array(row[:1]))[0]), row[4], row[1], row[3], row[2]))

    events, duplicates = sort_partition(chunks)
    assert events.tolist() == kept
    assert sorted(duplicates[["place", "first", "event"]].tolist()) == repeated


@pytest.mark.parametrize(
    ("rule", "alike"),
    [("same_event", (0, 1, 2, 3, 4)), ("same_item_and_second", (0, 1, 4)), ("none", None)],
)
def test_what_repeats_an_event_is_described(rule: str, alike: tuple[int, ...] | None) -> None:
    rows = [(1 + i % 3, 1 + i % 4, 1 + i % 2, 1 + i % 3 % 2, 100 + i % 5) for i in range(200)]
    packed = pack_chunk(0, 0, np.array([(*row, line) for line, row in enumerate(rows)], LOGGED_EVENT))
    events, duplicates = sort_partition([packed], rule)
    expected = len(rows) if alike is None else len({tuple(row[at] for at in alike) for row in rows})
    assert (len(events), len(duplicates)) == (expected, len(rows) - expected)
    assert {tuple(row)[:5] for row in events.tolist()} <= set(rows)
    if alike is not None:
        kept = [tuple(rows[place[2]][at] for at in alike) for place in duplicates["first"].tolist()]
        assert kept == [tuple(row[at] for at in alike) for row in duplicates["event"].tolist()]


def test_of_exposures_of_one_item_and_second_the_click_is_kept() -> None:
    rows = np.zeros(6, logged(EXPOSED_EVENT))
    rows["user"] = rows["item"] = rows["category"] = 1
    rows["behavior"] = [1, 1, 1, 1, 4, 4]
    rows["shown"] = [NOT_CLICKED, CLICKED, NOT_CLICKED, NOT_CLICKED, NOT_SHOWN, NOT_SHOWN]
    rows["position"], rows["request"] = [1, 3, 2, 2, 0, 0], [7, 7, 7, 8, 0, 0]
    for unnamed in (False, True):
        if unnamed:
            # As of a log without requests: a purchase in the second of a showing is none.
            rows["request"] = 0
        events, dropped = sort_partition([pack_chunk(0, 0, rows)], "same_item_and_second", EXPOSED_EVENT)
        kept = sorted(events[["request", "shown", "position"]].tolist())
        shown = [(0, CLICKED, 3)] if unnamed else [(7, CLICKED, 3), (8, NOT_CLICKED, 2)]
        assert kept == [(0, NOT_SHOWN, 0), *shown]
        assert len(dropped) == len(rows) - len(kept)
