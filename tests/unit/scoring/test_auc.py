from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from ctr.components.scoring.auc import auc, grouped_auc

PAIRS = st.integers(2, 60).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.int64, n, elements=st.integers(1, 4)),
        hnp.arrays(np.int8, n, elements=st.integers(0, 1)),
        # Few distinct values, so that ties are common.
        hnp.arrays(np.float32, n, elements=st.sampled_from([-np.inf, -1.5, 0.0, 0.25, 0.5, 3.0])),
    )
)


def brute_force(labels: np.ndarray, scores: np.ndarray) -> float:
    positives, negatives = scores[labels == 1], scores[labels == 0]
    if not positives.size or not negatives.size:
        return math.nan
    wins = (positives[:, None] > negatives) + 0.5 * (positives[:, None] == negatives)
    return float(wins.mean())


@given(PAIRS)
@settings(max_examples=200, deadline=None)
def test_auc_is_the_share_of_pairs_ranked_right(pairs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    _, labels, scores = pairs
    np.testing.assert_allclose(auc(labels, scores), brute_force(labels, scores))


@given(PAIRS)
@settings(max_examples=200, deadline=None)
def test_gauc_weighs_each_user_by_its_pairs_and_skips_one_class(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    users, labels, scores = pairs
    weighted, weight, skipped = 0.0, 0, 0
    for user in np.unique(users):
        rows = users == user
        value = brute_force(labels[rows], scores[rows])
        if math.isnan(value):
            skipped += 1
        else:
            weighted, weight = weighted + value * rows.sum(), weight + rows.sum()
    result = grouped_auc(users, labels, scores)
    np.testing.assert_allclose(result.value, weighted / weight if weight else math.nan)
    assert result.skipped == skipped
    assert result.groups + skipped == np.unique(users).size


def test_agrees_with_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    labels, scores = rng.integers(0, 2, 5000), rng.normal(size=5000).round(2)
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_order_of_the_pairs_does_not_change_a_bit() -> None:
    rng = np.random.default_rng(4)
    users, labels = rng.integers(0, 50, 3000), rng.integers(0, 2, 3000)
    scores = rng.random(3000).astype(np.float32).round(2)
    order = rng.permutation(3000)
    assert grouped_auc(users, labels, scores) == grouped_auc(users[order], labels[order], scores[order])


def test_a_score_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="1 of 3 scores are NaN"):
        auc(np.array([1, 0, 1]), np.array([0.5, np.nan, 0.2]))


def test_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes differ"):
        auc(np.array([1, 0]), np.array([0.5]))


def test_no_pairs_have_no_auc() -> None:
    assert math.isnan(auc(np.array([], np.int8), np.array([], np.float32)))
