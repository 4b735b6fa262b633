"""Counts of candidates in impressions: against counting one by one in the log, whatever cuts it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ingest_runs import as_csv, ingest_files, random_rows

from ctr.components.counting import CountsConfig
from ctr.components.examples.event_counts import EventCounts
from ctr.components.settings import IngestConfig
from ctr.models.impression import SPLITS
from ctr.models.negatives import StoredNegatives

COUNTS = CountsConfig(item=(600, "all"), category=(3600,))
SETTINGS = IngestConfig(
    counts=COUNTS, targets_per_user=3, training_negatives=StoredNegatives(uniform=1, contemporaneous=1)
)


@pytest.mark.usefixtures("table")
def test_counts_are_of_what_was_before_whatever_cuts_the_log(tmp_path: Path) -> None:
    rows = random_rows(seed=5, rows=1500, users=40, items=100, categories=9, seconds=20_000)
    found = []
    for name, ordered, partitions in (("a", rows, 1), ("b", rows[::-1], 3)):
        (tmp_path / f"{name}.csv").write_bytes(as_csv(ordered))
        ingest = SETTINGS.model_copy(update={"user_partitions": partitions})
        found.append(ingest_files([tmp_path / f"{name}.csv"], tmp_path / name, ingest))
    one, other = found
    assert one.files("catalogue") == other.files("catalogue")
    log = np.array([(item, category, time) for _, item, category, _, time in sorted(set(rows))])
    seen = 0
    for split in SPLITS:
        assert one.serialized(split) == other.serialized(split)
        for impression in one.impressions(split):
            time = impression["timestamp"][0]
            past = log[log[:, 2] < time]
            recent = {
                count: past[past[:, 2] >= time - int(count.window)] for count in COUNTS.counts if count.window != "all"
            }
            for place, (item, category) in enumerate(
                zip(impression["candidate_item_id"], impression["candidate_category_id"], strict=True)
            ):
                for count in COUNTS.counts:
                    of, key = recent.get(count, past), {"item": item, "category": category}[count.field]
                    expected = int((of[:, {"item": 0, "category": 1}[count.field]] == key).sum())
                    assert impression[f"candidate_{count.name}"][place] == expected
                    seen = max(seen, expected)
    assert seen > 50
    served = EventCounts.read(str(tmp_path / "a/catalogue"), "item", ["item_events_10m", "item_events_all"])
    counts = dict(zip(*np.unique(log[:, 0], return_counts=True), strict=True))
    assert dict(zip(served.ids.tolist(), served.counts[:, 1].tolist(), strict=True)) == counts
