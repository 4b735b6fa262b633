"""What the served graph makes of a request's tensors, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.components.trainer.request import checked_request
from ctr.models.impression import CANDIDATE_FEATURES, FEATURES, HISTORY_FEATURES, REQUEST_FEATURES

GROUPS = (HISTORY_FEATURES, CANDIDATE_FEATURES)
Arrays = dict[str, np.ndarray]

GOOD = {
    "history_item_id": [[12, 15]],
    "history_category_id": [[3, 4]],
    "history_behavior": [[1, 2]],
    "history_age": [[3600, 60]],
    "candidate_item_id": [[7, 9]],
    "candidate_category_id": [[3, 5]],
}


@tf.function(input_signature=[{name: tf.TensorSpec([None, None], tf.int64, name) for name in REQUEST_FEATURES}])
def _checked(request: dict[str, tf.Tensor]) -> dict[str, tf.RaggedTensor]:
    return checked_request(request)


def checked(request: Any) -> dict[str, list[list[int]]]:
    tensors = {name: tf.constant(value, tf.int64) for name, value in request.items()}
    return {name: ragged.to_list() for name, ragged in _checked(tensors).items()}


@pytest.mark.parametrize("at", [(0, 0), (2,), (0, 1), (1, 1, 1), ()])
def test_padding_of_a_history_is_taken_out_wherever_it_stands(at: tuple[int, ...]) -> None:
    padded = {n: np.insert(v, at, 0, axis=1) if n in HISTORY_FEATURES else v for n, v in GOOD.items()}
    assert checked(padded) == checked(GOOD) == GOOD


def test_candidates_keep_their_positions() -> None:
    padded = {n: np.insert(v, (0, 1), 0, axis=1) if n in CANDIDATE_FEATURES else v for n, v in GOOD.items()}
    assert checked(padded)["candidate_item_id"] == [[0, 7, 0, 9]]
    assert checked(padded)["candidate_category_id"] == [[0, 3, 0, 5]]


MOST = 2**63 - 1
REFUSED = {
    "age below 1": ({"history_age": [[3600, -60]]}, "history_age at row 0, position 1 is -60, expected 1 or more"),
    "age of padding": ({"history_age": [[0, 60]]}, "history_age at row 0, position 0 is 0, expected 1 or more"),
    "smallest int64": ({"history_age": [[-MOST - 1, 60]]}, f"position 0 is {-MOST - 1}, expected 1 or more"),
    "behaviour above": ({"history_behavior": [[1, 9]]}, "history_behavior at row 0, position 1 is 9, expected 1 to 4"),
    "behaviour below": ({"history_behavior": [[-1, 1]]}, "history_behavior at row 0, position 0 is -1, expected 1 to"),
    "item": ({"history_item_id": [[12, -15]]}, "history_item_id at row 0, position 1 is -15, expected 1 or more"),
    "category": ({"history_category_id": [[3, 0]]}, "history_category_id at row 0, position 1 is 0, expected 1 or"),
    "candidate": ({"candidate_item_id": [[-7, 9]]}, "candidate_item_id at row 0, position 0 is -7, expected 1 or more"),
    "candidate's category": ({"candidate_category_id": [[3, -5]]}, "candidate_category_id at row 0, position 1 is -5"),
    "half padding": (
        {"history_item_id": [[12, 0]]},
        "history_category_id at row 0, position 1 is 4, expected 0, because history_item_id is 0 there",
    ),
    "half padding among candidates": (
        {"candidate_item_id": [[0, 9]]},
        "candidate_category_id at row 0, position 0 is 3, expected 0, because candidate_item_id is 0 there",
    ),
    "second row": (
        {name: [*value, *value] for name, value in GOOD.items()} | {"history_age": [[3600, 60], [3600, -1]]},
        "history_age at row 1, position 1 is -1",
    ),
    "three ages": ({"history_age": [[3, 2, 1]]}, "history_age has the shape [1 3], expected [1 2]"),
    "columns": (
        {"history_behavior": [[1, 2, 3]]},
        "history_behavior has the shape [1 3], expected [1 2]: as many rows as history_item_id and as many columns as "
        "history_item_id",
    ),
    "candidates' columns": ({"candidate_category_id": [[3]]}, "candidate_category_id has the shape [1 1], expected [1"),
    "rows": (
        {"candidate_item_id": [[7, 9], [7, 9]], "candidate_category_id": [[3, 5], [3, 5]]},
        "candidate_item_id has the shape [2 2], expected [1 2]",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_no_impression_holds_is_refused_by_name(case: str) -> None:
    change, message = REFUSED[case]
    with pytest.raises(tf.errors.InvalidArgumentError, match=re.escape(message)):
        checked(GOOD | change)


def _refusal(case: str) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as raised:
        checked(GOOD | REFUSED[case][0])
    return raised.value.message


def test_the_messages_in_the_documentation_are_the_real_ones() -> None:
    page = (Path(__file__).parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
    shown = re.findall(r"^assertion failed: .*$", page, flags=re.MULTILINE)
    real = "".join(_refusal(case) for case in ("age below 1", "behaviour above", "half padding", "three ages"))
    assert len(shown) == 4
    for message in shown:
        assert f"{message}\n" in real


def test_the_ends_of_each_range_are_taken() -> None:
    for end in ("smallest", "largest"):
        request = {name: [[getattr(FEATURES[name], end)]] for name in REQUEST_FEATURES}
        assert checked(request) == request


def test_an_empty_batch_and_empty_lists_are_taken() -> None:
    assert checked({name: np.zeros((0, 3)) for name in REQUEST_FEATURES}) == {name: [] for name in REQUEST_FEATURES}
    none = {name: np.zeros((2, 0)) for name in REQUEST_FEATURES}
    assert checked(none) == {name: [[], []] for name in REQUEST_FEATURES}


_EDGES = st.sampled_from([0, 0, 0, 1, 2, 3, 4, 5, -1, MOST, -MOST - 1])


@st.composite
def tensors(draw: st.DrawFn) -> Arrays:
    """Any int64 of matching shapes: mostly what a request may hold or nearly so."""
    rows = draw(st.integers(1, 3))
    request = {}
    for group in GROUPS:
        width = draw(st.integers(0, 4))
        for name in group:
            values = draw(st.lists(_EDGES | st.integers(-MOST - 1, MOST), min_size=rows * width, max_size=rows * width))
            request[name] = np.array(values, np.int64).reshape(rows, width)
        if draw(st.booleans()):
            for name in group[1:]:
                clipped = np.clip(request[name], FEATURES[name].smallest, FEATURES[name].largest)
                request[name] = np.where(request[group[0]] == 0, 0, clipped)
    return request


def _impossible(request: Arrays) -> Iterator[str]:
    for group in GROUPS:
        padding = request[group[0]] == 0
        for name in group:
            within = (request[name] >= FEATURES[name].smallest) & (request[name] <= FEATURES[name].largest)
            if not np.where(padding, request[name] == 0, within).all():
                yield name


@settings(max_examples=150, deadline=None)
@given(tensors())
def test_a_request_is_taken_whole_or_refused_for_what_is_wrong_with_it(request: Arrays) -> None:
    impossible = list(_impossible(request))
    if impossible:
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"\[({'|'.join(impossible)}) at row \d, position \d"):
            checked(request)
        return
    taken = checked(request)
    for name in HISTORY_FEATURES:
        events = [row[real].tolist() for row, real in zip(request[name], request["history_item_id"] != 0, strict=True)]
        assert taken[name] == events
    for name in CANDIDATE_FEATURES:
        assert taken[name] == request[name].tolist()
