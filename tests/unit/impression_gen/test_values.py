"""Declared values of impressions are those that were known then, and no later ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pytest
from declared_log import DECLARED, described
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ctr.components.examples.catalogue import Catalogue
from ctr.components.impression_gen.counts import count_items, count_seconds
from ctr.components.impression_gen.events import logged, pack_chunk, sort_partition
from ctr.components.impression_gen.impressions import build_impressions, make_requests, proposal_width
from ctr.components.impression_gen.negatives import CatalogueIndex, propose
from ctr.components.impression_gen.targets import find_targets
from ctr.components.impression_gen.timeline import Timeline, make_timeline
from ctr.components.impression_gen.values import (
    LOG,
    ItemValues,
    event_type,
    known_values,
    merge_values,
    of_candidates,
)
from ctr.components.settings import IngestConfig
from ctr.models.impression import SPLITS, declare_features
from ctr.models.negatives import StoredNegatives

pytestmark = pytest.mark.usefixtures("table")

DATASET: Final = described()
INGEST: Final = IngestConfig(
    user_partitions=1,
    history_length=5,
    training_negatives=StoredNegatives(uniform=1, contemporaneous=1, revisit=0),
    contemporaneous_events=20,
    dataset=DATASET,
)

ROW = st.fixed_dictionaries(
    {
        "user": st.integers(1, 4),
        "item": st.integers(1, 8),
        "category": st.integers(1, 2),
        "behavior": st.integers(1, 4),
        "timestamp": st.integers(1000, 1030),
        "price": st.sampled_from([math.nan, 0.0, 1.5, 2.5]),
        "brand": st.integers(0, 3),
        "tags": st.sampled_from([(0, 0), (5, 0), (5, 6), (6, 5)]),
        "strength": st.sampled_from([math.nan, 7.0]),
        "years": st.sampled_from([math.nan, 30.0, 40.0]),
        "device": st.integers(0, 2),
    }
)
ROWS = st.lists(ROW, min_size=10, max_size=50)


def sorted_events(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    kind = event_type(DATASET)
    events = np.zeros(len(rows), logged(kind))
    for line, row in enumerate(rows):
        events[line]["line"] = line
        for name, value in row.items():
            (events["values"] if name in DECLARED else events)[name][line] = value
    return sort_partition([pack_chunk(0, 0, events)], "same_event", kind)[0]


FLIPPED: Final = INGEST.model_copy(update={"flip_labels": True, "training_negatives": StoredNegatives(uniform=1)})


def timeline_of(events: np.ndarray) -> Timeline:
    try:
        return make_timeline(count_seconds(events, INGEST), INGEST)
    except ValueError:
        assume(False)
        raise


def impressions_of(events: np.ndarray, timeline: Timeline, ingest: IngestConfig = INGEST) -> list[dict[str, Any]]:
    declare_features(DATASET.rows)
    index = CatalogueIndex(Catalogue.from_counts(count_items(events, timeline, ingest)))
    requests = make_requests(events, find_targets(events, timeline, ingest), ingest)
    proposals = propose(events, requests, timeline, ingest, proposal_width(ingest))
    items = {LOG: ItemValues.of(merge_values(known_values("item", events, of_candidates(DATASET.features))))}
    built, _ = build_impressions(events, proposals, timeline, ingest, index, items)
    return [
        {**contexts[batch.context[at]], **kinds[batch.kind[at]], **row}
        for split in SPLITS
        for batch in built[split].batches()
        for contexts, kinds in [(batch.contexts.to_pylist(), batch.kinds.to_pylist())]
        for at, row in enumerate(batch.candidates.to_pylist())
    ]


def last(rows: Sequence[dict[str, Any]], name: str, key: str, of: int, before: int, missing: Any) -> Any:
    """By hand, row by row: the last value that is known."""
    found = missing
    # Of rows of one second, the order of the declared values, with what is missing where numpy has it.
    for row in sorted(rows, key=lambda row: (row["timestamp"], *_ordered(row, key))):
        value = row[name]
        known = value[0] != 0 if name == "tags" else value != 0 if name in ("brand",) else not math.isnan(value)
        if row[key] == of and row["timestamp"] < before and known:
            found = value
    return found


def _ordered(row: dict[str, Any], key: str) -> tuple[Any, ...]:
    price, years = (math.inf if math.isnan(row[name]) else row[name] for name in ("price", "years"))
    return (price, row["brand"], row["tags"]) if key == "item" else (years,)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, flipped=st.booleans())
def test_every_value_is_the_one_that_was_known_then(rows: list[dict[str, Any]], flipped: bool) -> None:
    events = sorted_events(rows)
    # The log as it was kept, in its order.
    kept = [
        {name: row[name].item() for name in events.dtype.names if name != "values"}
        | {
            name: tuple(row["values"][name].tolist()) if name == "tags" else row["values"][name].item()
            for name in row["values"].dtype.names
        }
        for row in events
    ]
    for impression in impressions_of(events, timeline_of(events), FLIPPED if flipped else INGEST):
        (t,), (user,) = impression["timestamp"], impression["user_id"]
        items = impression["candidate_item_id"]
        assert impression["candidate_price"] == [last(kept, "price", "item", item, t, -1.0) for item in items]
        assert impression["candidate_brand"] == [last(kept, "brand", "item", item, t, 0) for item in items]
        tags = [last(kept, "tags", "item", item, t, (0, 0)) for item in items]
        assert list(zip(impression["candidate_tags_1"], impression["candidate_tags_2"], strict=True)) == tags
        history = [row for row in kept if row["user"] == user and row["timestamp"] < t][-INGEST.history_length :]
        assert impression.get("history_item_id", []) == [row["item"] for row in history]
        for name, missing in (("price", -1.0), ("strength", 0.0)):
            values = [missing if math.isnan(row[name]) else row[name] for row in history]
            assert impression.get(f"history_{name}", []) == values
        assert impression.get("history_brand", []) == [row["brand"] for row in history]
        assert "history_tags_1" not in impression
        assert impression["years"] == [last(kept, "years", "user", user, t, 0.0)]
        positives = [
            row
            for row in kept
            if (row["user"], row["timestamp"], row["behavior"]) == (user, t, impression["target_behavior"][0])
            and (flipped or row["item"] == items[0])
        ]
        assert impression["device"][0] in [row["device"] for row in positives]
        # A quarter of an hour beside the full ones.
        assert (impression["hour"], impression["day"]) == ([5.0], [4.0])


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, place=st.floats(0, 1), seed=st.integers(0, 9))
def test_no_value_of_then_or_later_changes_an_impression(rows: list[dict[str, Any]], place: float, seed: int) -> None:
    """All values at or after t are others, those of the positive's own row too, but of the request."""
    events = sorted_events(rows)
    timeline = timeline_of(events)
    before = impressions_of(events, timeline)
    assume(len(before) > 0)
    chosen = int(place * (len(before) - 1))
    impression = before[chosen]
    (t,), (user,) = impression["timestamp"], impression["user_id"]
    rng = np.random.default_rng(seed)
    changed = events.copy()
    values, later = changed["values"], events["timestamp"] >= t
    for name in values.dtype.names or ():
        others = rng.integers(0, 99, values[name].shape).astype(values[name].dtype)
        shown = (
            (events["user"] == user) & (events["timestamp"] == t) if name == "device" else np.zeros(len(events), bool)
        )
        values[name][later & ~shown] = others[later & ~shown]
    assert impressions_of(changed, timeline)[chosen] == before[chosen]
    if (later & (events["timestamp"] < events["timestamp"].max())).any():
        assert changed.tobytes() != events.tobytes()
