"""Transformed impressions whose numbers a test can work out by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from block_files import write_blocks

from ctr.models.impression import INDEX_OF

Row = Mapping[str, Any]

TIME = 1_512_086_400
"""2017-12-01 08:00 in Asia/Shanghai."""


def write(path: Path, rows: Iterable[Row]) -> str:
    return write_blocks(path, rows)


def impression(negative_set: str, history: Sequence[tuple[int, int, int, int]], items: Sequence[int]) -> dict[str, Any]:
    """A transformed impression: the first item is the positive, an item's category is a tenth of its id.

    Items above 500 and categories above 60 are unknown to the vocabulary.
    """
    row: dict[str, Any] = {"negative_set": negative_set.encode(), "user_id": [1], "timestamp": [TIME]}
    row["target_behavior"] = [1 + len(history) % 4]
    names = ("history_item_id", "history_category_id", "history_behavior", "history_age")
    for name, values in zip(names, zip(*history, strict=True) if history else [()] * 4, strict=True):
        row[name] = list(values)
    row["candidate_item_id"] = list(items)
    row["candidate_category_id"] = [item // 10 for item in items]
    row["label"] = [1] + [0] * (len(items) - 1)
    for raw, index in INDEX_OF.items():
        last = 500 if "item" in raw else 60
        row[index] = [1 if value > last else value + 2 for value in row[raw]]
    return row


def random_impressions(count: int, seed: int, negative_sets: Sequence[str]) -> list[dict[str, Any]]:
    """Impressions whose positive shares the category of the last event in about half of all cases, and
    is an item of the history in some, as a negative is; histories may be empty."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        length = int(rng.integers(0, 6))
        items = rng.integers(10, 700, length)
        ages = np.sort(rng.integers(1, 100_000, length))[::-1]
        history = [(int(v), int(v) // 10, int(rng.integers(1, 5)), int(a)) for v, a in zip(items, ages, strict=True)]
        positive = int(rng.integers(10, 700))
        if length and rng.random() < 0.2:
            positive = int(rng.choice(items))
        elif length and rng.random() < 0.6:
            positive = int(items[-1]) // 10 * 10 + int(rng.integers(0, 10))
        negatives = rng.integers(10, 700, rng.integers(1, 4)).tolist()
        if length and rng.random() < 0.1:
            negatives[0] = int(items[0])
        row = impression(negative_sets[i % len(negative_sets)], history, [positive, *negatives])
        rows.append(row | {"user_id": [1 + i % 50], "timestamp": [TIME + i * 7_919 % 86_400]})
    return rows
