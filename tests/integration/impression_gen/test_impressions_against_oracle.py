"""The vectorised ingest equals the one that is written row by row."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from impression_oracle import Row, ingest_by_hand
from ingest_runs import as_csv, ingest_files, random_rows

from ctr.components.examples.catalogue import Catalogue
from ctr.components.impression_gen.counts import ITEM_COUNT, SECOND_COUNT, merge_counts
from ctr.components.impression_gen.events import EVENT, LOGGED_EVENT, pack_chunk, sort_partition
from ctr.components.impression_gen.impressions import build_impressions, make_requests, proposal_width
from ctr.components.impression_gen.negatives import CatalogueIndex, propose
from ctr.components.impression_gen.targets import find_targets
from ctr.components.impression_gen.timeline import Timeline, make_timeline
from ctr.components.impression_gen.writer import encode
from ctr.components.settings import IngestConfig
from ctr.models.impression import BEHAVIORS, REVISIT
from ctr.models.negatives import StoredNegatives

ROWS = st.lists(
    st.tuples(
        st.integers(1, 4),
        st.integers(1, 12),
        st.integers(1, 3),
        st.sampled_from(["pv", "cart", "fav", "buy"]),
        st.integers(1000, 1030),
    ),
    min_size=10,
    max_size=60,
)
TRAINING_NEGATIVES = st.builds(
    StoredNegatives,
    uniform=st.integers(0, 2),
    same_category=st.integers(0, 2),
    contemporaneous=st.integers(1, 4),
    revisit=st.integers(0, 2),
)
CONFIGS = st.builds(
    lambda behaviors, **values: IngestConfig(user_partitions=1, behaviors_as_targets=tuple(behaviors), **values),
    behaviors=st.sampled_from([("pv", "cart", "fav", "buy"), ("buy", "pv")]),
    validation_share=st.sampled_from([0.1, 0.3]),
    eval_share=st.sampled_from([0.2, 0.4]),
    history_length=st.integers(2, 6),
    min_history=st.integers(0, 2),
    targets_per_user=st.sampled_from([None, 1, 3]),
    training_negatives=TRAINING_NEGATIVES,
    evaluation_negatives=st.integers(1, 2),
    contemporaneous_events=st.sampled_from([1, 5, 600]),
    seed=st.integers(0, 3),
)


def features_of(serialized: bytes) -> dict[str, list[Any]]:
    features = tf.train.Example.FromString(serialized).features.feature
    return {
        name: list(feature.bytes_list.value if feature.HasField("bytes_list") else feature.int64_list.value)
        for name, feature in features.items()
    }


def sorted_events(rows: list[Row]) -> np.ndarray:
    logged = np.array([(u, i, c, BEHAVIORS[b], t, line) for line, (u, i, c, b, t) in enumerate(rows)], LOGGED_EVENT)
    return sort_partition([pack_chunk(0, 0, logged)])[0]


def timeline_of(events: np.ndarray, ingest: IngestConfig) -> Timeline:
    seconds = np.ones(len(events), SECOND_COUNT)
    seconds["second"] = events["timestamp"]
    return make_timeline(merge_counts(seconds), ingest)


def catalogue_of(events: np.ndarray, timeline: Timeline) -> Catalogue:
    counts = np.empty(len(events), ITEM_COUNT)
    counts["item"], counts["category"] = events["item"], events["category"]
    counts["train_events"] = timeline.splits(events["timestamp"]) == 0
    return Catalogue.from_counts(merge_counts(counts))


def build(
    events: np.ndarray, timeline: Timeline, catalogue: Catalogue, ingest: IngestConfig
) -> tuple[dict[str, list[bytes]], dict[tuple[str, str], int]]:
    requests = make_requests(events, find_targets(events, timeline, ingest), ingest)
    proposals = propose(events, requests, timeline, ingest, proposal_width(ingest))
    built, dropped = build_impressions(events, proposals, timeline, ingest, CatalogueIndex(catalogue))
    return {split: [raw for batch in b.batches() for raw in encode(batch)] for split, b in built.items()}, dropped


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, ingest=CONFIGS)
def test_one_partition(rows: list[Row], ingest: IngestConfig) -> None:
    events = sorted_events(rows)
    try:
        timeline = timeline_of(events, ingest)
    except ValueError:
        assume(False)
    expected = ingest_by_hand(rows, ingest)
    assert (timeline.validation_start, timeline.eval_start) == expected.boundaries
    catalogue = catalogue_of(events, timeline)
    serialized, dropped = build(events, timeline, catalogue, ingest)
    for split, impressions in expected.impressions.items():
        assert [features_of(raw) for raw in serialized[split]] == impressions
    assert +Counter(dropped) == expected.dropped


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, ingest=CONFIGS, place=st.floats(0, 1))
def test_nothing_at_or_after_an_impression_changes_its_history(
    rows: list[Row], ingest: IngestConfig, place: float
) -> None:
    """All events at or after t go and one is put in the positive's place: the context's bytes stay."""
    events = sorted_events(rows)
    try:
        timeline = timeline_of(events, ingest)
    except ValueError:
        assume(False)
    targets = find_targets(events, timeline, ingest)
    assume(len(targets.event) > 0)
    row = int(place * (len(targets.event) - 1))
    positive = events[targets.event[row]]
    history = events[targets.history_start[row] : targets.history_end[row]]

    stand_in = np.array([(positive["user"], 99, 9, positive["behavior"], positive["timestamp"])], EVENT)
    past = np.concatenate([events[events["timestamp"] < positive["timestamp"]], stand_in])
    past = past[np.lexsort((past["timestamp"], past["user"]))]
    again = find_targets(past, timeline, ingest)
    (found,) = np.flatnonzero(past["item"][again.event] == 99)
    assert past[again.history_start[found] : again.history_end[found]].tobytes() == history.tobytes()
    assert (history["timestamp"] < positive["timestamp"]).all()
    assert (history["user"] == positive["user"]).all()


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, ingest=CONFIGS, place=st.floats(0, 1))
def test_nothing_after_an_impression_changes_its_revisit_negatives(
    rows: list[Row], ingest: IngestConfig, place: float
) -> None:
    """All events at or after t go but the positive: the impression's bytes stay, whatever else its user had later."""
    events = sorted_events(rows)
    try:
        timeline = timeline_of(events, ingest)
    except ValueError:
        assume(False)
    catalogue = catalogue_of(events, timeline)
    only = ingest.model_copy(update={"evaluation_sets": (REVISIT,)})

    def evaluated(kept: np.ndarray) -> list[bytes]:
        return build(kept, timeline, catalogue, only)[0]["eval"]

    whole = evaluated(events)
    assume(len(whole) > 0)
    chosen = whole[int(place * (len(whole) - 1))]
    impression = features_of(chosen)
    (user,), (t,), (behavior,) = (impression[name] for name in ("user_id", "timestamp", "target_behavior"))
    (item, *drawn), (category, *_) = impression["candidate_item_id"], impression["candidate_category_id"]
    history = list(zip(impression["history_item_id"], impression["history_category_id"], strict=True))
    assert set(zip(drawn, impression["candidate_category_id"][1:], strict=True)) <= set(history)
    assert len({item, *drawn}) == 1 + ingest.evaluation_negatives
    positive = np.array([(user, item, category, behavior, t)], EVENT)
    assert chosen in evaluated(events[(events["timestamp"] < t) | (events == positive)])


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(rows=ROWS, ingest=CONFIGS, other=TRAINING_NEGATIVES)
def test_evaluation_sets_do_not_know_the_training_negatives(
    rows: list[Row], ingest: IngestConfig, other: StoredNegatives
) -> None:
    events = sorted_events(rows)
    try:
        timeline = timeline_of(events, ingest)
    except ValueError:
        assume(False)
    catalogue = catalogue_of(events, timeline)
    changed = ingest.model_copy(update={"training_negatives": other})
    assert (
        build(events, timeline, catalogue, ingest)[0]["eval"] == build(events, timeline, catalogue, changed)[0]["eval"]
    )


@pytest.mark.parametrize(("partitions", "window"), [(1, 40), (5, 40), (7, 600)])
def test_the_whole_pipeline(tmp_path: Path, partitions: int, window: int) -> None:
    rows = random_rows(seed=partitions, rows=1200, users=40, items=300, categories=12, seconds=3000)
    ingest = IngestConfig(
        user_partitions=partitions,
        history_length=10,
        targets_per_user=6,
        training_negatives=StoredNegatives(uniform=1, same_category=1, contemporaneous=2, revisit=1),
        evaluation_negatives=2,
        contemporaneous_events=window,
    )
    (tmp_path / "log.csv").write_bytes(as_csv(rows))
    done = ingest_files([tmp_path / "log.csv"], tmp_path / "out", ingest)
    expected = ingest_by_hand(rows, ingest)
    for split, impressions in expected.impressions.items():
        assert done.impressions(split) == impressions
    summary = done.summary
    assert (summary.validation_start, summary.eval_start) == expected.boundaries
    assert summary.quarantined["duplicate"] == expected.duplicates > 0
    assert +Counter({(s, r): n for s, lost in summary.dropped.items() for r, n in lost.items()}) == expected.dropped
    catalogue = done.catalogue
    columns = (catalogue.item_ids, catalogue.item_categories, catalogue.item_counts)
    assert list(zip(*(c.tolist() for c in columns), strict=True)) == expected.items
