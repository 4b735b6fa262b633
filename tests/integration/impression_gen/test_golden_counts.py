"""A generated log with exactly the public file's dirt gives the public file's counts of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from ingest_runs import ingest_files

from ctr.components.settings import IngestConfig
from ctr.generator.behavior_log import generate
from ctr.generator.generator_config import DirtConfig, GeneratorConfig

NEGATIVE, OUTSIDE, DUPLICATES, SEVERAL_CATEGORIES = 38, 55_576, 49, 1_406
"""UserBehavior.csv; what is outside of the window includes what is negative."""


@pytest.mark.slow
def test_golden_counts(tmp_path: Path) -> None:
    dirt = DirtConfig(
        negative_timestamp=NEGATIVE,
        outside_window=OUTSIDE - NEGATIVE,
        duplicate=DUPLICATES,
        two_category_items=SEVERAL_CATEGORIES,
    )
    made = generate(GeneratorConfig(users=2000, seed=7, dirt=dirt), tmp_path / "log.csv")
    # The public file has 500 times as many clean rows, so that this is 0.06 % of it.
    ingest = IngestConfig(user_partitions=4, targets_per_user=1, max_quarantined_share=0.25)
    done = ingest_files([made.path], tmp_path / "out", ingest)
    summary = done.summary
    assert {reason: count for reason, count in summary.quarantined.items() if count} == {
        "negative_timestamp": NEGATIVE,
        "outside_window": OUTSIDE - NEGATIVE,
        "duplicate": DUPLICATES,
    }
    assert summary.items_with_several_categories == SEVERAL_CATEGORIES
    assert summary.rows_read == made.rows
    in_window = made.rows - OUTSIDE
    assert summary.rows_kept == in_window - DUPLICATES == sum(made.behaviors.values()) + 2 * SEVERAL_CATEGORIES
    assert summary.users == made.users
    lines = sorted(int(row[1]) for row in done.quarantine())
    assert len(lines) == len(set(lines)) == OUTSIDE + DUPLICATES
