from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctr.models.impression import BEHAVIORS, MAX_HISTORY, REQUEST_FEATURES
from ctr.serving.impressions import MAX_CANDIDATES, Impression, ImpressionError, load_impression

EVENT = {"item_id": 12, "category_id": 3, "behavior": "cart", "age_seconds": 60}
CANDIDATE = {"item_id": 7, "category_id": 3}


def written(folder: Path, content: Any) -> Path:
    path = folder / "impression.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def test_reads_a_file(tmp_path: Path) -> None:
    older = {**EVENT, "behavior": "pv", "age_seconds": 90}
    path = written(tmp_path, {"history": [older, EVENT], "candidates": [CANDIDATE, {"item_id": 9, "category_id": 4}]})
    assert load_impression(path).features() == {
        "history_item_id": [12, 12],
        "history_category_id": [3, 3],
        "history_behavior": [1, 2],
        "history_age": [90, 60],
        "candidate_item_id": [7, 9],
        "candidate_category_id": [3, 4],
    }


def test_a_new_user_has_no_history(tmp_path: Path) -> None:
    assert load_impression(written(tmp_path, {"history": [], "candidates": [CANDIDATE]})).history == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"history": [], "candidates": []}, r"candidates: must have at least 1 item"),
        ({"history": []}, r"candidates: is missing"),
        ({"candidates": [CANDIDATE]}, r"history: is missing"),
        ({"history": [{**EVENT, "behavior": "click"}], "candidates": [CANDIDATE]}, r"history\.0\.behavior: .*'click'"),
        ({"history": [{**EVENT, "age_seconds": 0}], "candidates": [CANDIDATE]}, r"history\.0\.age_seconds: .*got 0"),
        ({"history": [], "candidates": [{**CANDIDATE, "item_id": 0}]}, r"candidates\.0\.item_id: .*got 0"),
        ({"history": [], "candidates": [{**CANDIDATE, "item_id": 2**63}]}, r"candidates\.0\.item_id: .*got 9223"),
        ({"history": [], "candidates": [{**CANDIDATE, "item_id": "7"}]}, r"candidates\.0\.item_id: .*got '7'"),
        ({"history": [], "candidates": [{**CANDIDATE, "item_id": True}]}, r"candidates\.0\.item_id: .*got True"),
        ({"history": [], "candidates": [{**CANDIDATE, "price": 1}]}, r"candidates\.0\.price: unknown key; there are"),
        ({"history": [], "candidates": [CANDIDATE], "label": 1}, r"label: unknown key; there are"),
        (
            {"history": [EVENT] * (MAX_HISTORY + 1), "candidates": [CANDIDATE]},
            r"history: .*at most 1,000 items \(has 1,001\)",
        ),
        ({"history": [], "candidates": [CANDIDATE] * (MAX_CANDIDATES + 1)}, r"candidates: .*at most 10,000 items"),
        (
            {"history": [EVENT, {**EVENT, "age_seconds": 61}], "candidates": [CANDIDATE]},
            r"history: events must stand oldest first, but event 1 \(61 s old\)",
        ),
        ("[]", r"impression: "),
        ('{"history": [', r"impression: Invalid JSON.*line 1"),
    ],
)
def test_errors_name_the_file_and_the_field(tmp_path: Path, content: Any, expected: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ImpressionError, match=expected) as raised:
        load_impression(path)
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImpressionError, match=r"nowhere\.json: cannot be read: No such file"):
        load_impression(tmp_path / "nowhere.json")


ids = st.integers(1, 2**63 - 1)
events = st.tuples(ids, ids, st.sampled_from(sorted(BEHAVIORS.values())), ids)


@given(
    history=st.lists(events, max_size=8).map(lambda rows: sorted(rows, key=lambda row: -row[3])),
    candidates=st.lists(st.tuples(ids, ids), min_size=1, max_size=8),
)
def test_features_and_json_round_trip(
    history: list[tuple[int, int, int, int]], candidates: list[tuple[int, int]]
) -> None:
    columns = [*np.array(history, dtype=np.int64).reshape(-1, 4).T, *np.array(candidates, dtype=np.int64).T]
    values = dict(zip(REQUEST_FEATURES, columns, strict=True))
    impression = Impression.from_features({**values, "user_id": [5], "label": [1]})
    assert impression.features() == {name: column.tolist() for name, column in values.items()}
    assert Impression.model_validate_json(impression.model_dump_json()) == impression


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"history_age": None}, "missing features: history_age"),
        ({"history_age": [1, 2]}, r"equal length.*'history_age': 2"),
        ({"candidate_category_id": []}, r"equal length.*'candidate_category_id': 0"),
        ({"history_behavior": [9]}, r"history\.0\.behavior"),
        ({"candidate_item_id": [0]}, r"candidates\.0\.item_id"),
    ],
)
def test_impossible_features_are_refused(change: dict[str, Any], expected: str) -> None:
    values = {**{name: [1] for name in REQUEST_FEATURES}, **change}
    with pytest.raises(ImpressionError, match=expected):
        Impression.from_features({name: value for name, value in values.items() if value is not None})


def test_importing_loads_no_tensorflow() -> None:
    code = "import sys, ctr.serving.impressions; sys.exit('tensorflow' in sys.modules or 'grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
