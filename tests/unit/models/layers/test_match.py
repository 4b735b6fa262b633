from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from ctr.models.impression import BEHAVIORS, REQUEST_FEATURES
from ctr.models.layers.match import MATCH_FEATURE_NAMES, item_seen, match_features

Event = tuple[int, int, int, int]


def oracle(history: list[Event], candidate: tuple[int, int]) -> list[float]:
    """Match features of one candidate, from their definitions."""
    values: dict[str, float] = dict.fromkeys(MATCH_FEATURE_NAMES, 0.0)
    for kind, field in (("item", 0), ("category", 1)):
        same = [k for k, event in enumerate(history) if event[field] == candidate[field]]
        if same:
            latest = same[-1]
            values[f"{kind}_seen"] = 1.0
            values[f"{kind}_count"] = math.log1p(len(same))
            values[f"{kind}_recency"] = max(0.0, 1 - math.log1p(history[latest][3]) / 14)
            values[f"{kind}_position"] = 1 / (len(history) - latest)
        kinds = {history[k][2] for k in same}
        if kind == "item":
            values["item_in_cart"] = float(BEHAVIORS["cart"] in kinds)
            values["item_favoured"] = float(BEHAVIORS["fav"] in kinds)
            values["item_bought"] = float(BEHAVIORS["buy"] in kinds)
        else:
            values["category_bought"] = float(BEHAVIORS["buy"] in kinds)
            values["category_share"] = len(same) / max(len(history), 1)
    return [values[name] for name in MATCH_FEATURE_NAMES]


ids = st.integers(1, 5)
histories = st.lists(
    st.tuples(ids, ids, st.sampled_from(sorted(BEHAVIORS.values())), st.integers(1, 2_000_000)), max_size=8
)


@settings(max_examples=60, deadline=None)
@given(st.lists(histories.map(lambda h: sorted(h, key=lambda e: -e[3])), min_size=1, max_size=4), st.data())
def test_equals_the_oracle_whatever_the_padding(batch: list[list[Event]], data: st.DataObject) -> None:
    width = max(map(len, batch)) + data.draw(st.integers(0, 3))
    candidates = [data.draw(st.lists(st.tuples(ids, ids), min_size=2, max_size=2)) for _ in batch]
    padded = np.zeros((len(batch), width, 4), "int64")
    for row, history in enumerate(batch):
        if history:
            padded[row, : len(history)] = history
    candidate_array = np.array(candidates, "int64")
    columns = [*np.moveaxis(padded, 2, 0), *np.moveaxis(candidate_array, 2, 0)]
    got = match_features({name: tf.constant(values) for name, values in zip(REQUEST_FEATURES, columns, strict=True)})
    expected = [[oracle(history, c) for c in row] for history, row in zip(batch, candidates, strict=True)]
    np.testing.assert_allclose(got.numpy(), np.array(expected), atol=1e-6)
    alone = item_seen(tf.constant(padded[..., 0]), tf.constant(candidate_array[..., 0]))
    np.testing.assert_array_equal(alone.numpy(), got[..., MATCH_FEATURE_NAMES.index("item_seen")].numpy() > 0)


def test_padding_was_never_seen() -> None:
    seen = item_seen(tf.constant([[3, 0], [0, 0]], tf.int64), tf.constant([[3, 0], [3, 0]], tf.int64))
    np.testing.assert_array_equal(seen.numpy(), [[True, False], [False, False]])


def test_padding_candidates_and_empty_histories_give_zeros(make_inputs: Callable[..., dict[str, tf.Tensor]]) -> None:
    inputs = make_inputs([0, 3], width=4)
    inputs["candidate_item_id"] = tf.zeros_like(inputs["candidate_item_id"])
    assert not match_features(inputs).numpy().any()
    empty = make_inputs([0, 0], width=0)
    got = match_features(empty).numpy()
    assert got.shape == (2, 3, len(MATCH_FEATURE_NAMES))
    assert not got.any()
