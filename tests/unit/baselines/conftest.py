from __future__ import annotations

from typing import Any

import pytest
from baseline_data import random_impressions, write

from ctr.models.impression import NEGATIVE_SETS


@pytest.fixture(scope="session")
def split_rows() -> dict[str, list[dict[str, Any]]]:
    return {
        "train": random_impressions(700, 1, ["mixed"]),
        "validation": random_impressions(100, 2, ["mixed"]),
        "eval": random_impressions(600, 3, NEGATIVE_SETS),
    }


@pytest.fixture(scope="session")
def split_files(
    tmp_path_factory: pytest.TempPathFactory, split_rows: dict[str, list[dict[str, Any]]]
) -> dict[str, list[str]]:
    folder = tmp_path_factory.mktemp("transformed")
    return {
        split: [write(folder / f"{split}-{part}.gz", rows[part::2]) for part in range(2)]
        for split, rows in split_rows.items()
    }
