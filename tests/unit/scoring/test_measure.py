"""Each metric, on each slice, against another implementation of it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from simulated import simulated, taken
from sklearn.metrics import auc as sk_area
from sklearn.metrics import log_loss, ndcg_score, roc_auc_score, roc_curve

from ctr.components.dataset import PUBLIC_LOG
from ctr.components.scoring.evaluation import WHOLE, Evaluation, Value
from ctr.components.scoring.judge import judge
from ctr.components.scoring.measure import RELIABILITY_BINS, ROC_POINTS, Scores, reliability, roc
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.components.scoring.ranking import ranks
from ctr.components.scoring.rows import rows_of
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.slices import attributes, popularity_bounds
from ctr.components.scoring.sums import SUMMED
from ctr.components.settings import EvaluationConfig
from ctr.models.errors import DataError
from ctr.models.registration import load_plugins

CONFIG = EvaluationConfig.model_validate({"bounds": {"auc": {"min": 0.5}}, "resamples": 100})


def judged(scored: Scored, config: EvaluationConfig = CONFIG) -> Evaluation:
    return judge(scored, config, "contemporaneous", "compared" if "blessed" in scored.scores else "first")


def slow(scored: Scored, rows: np.ndarray, scorer: str) -> dict[str, Any]:
    """The metrics by scikit-learn and by loops."""
    part = taken(scored, np.flatnonzero(rows))
    y, p = part.labels.astype(int), part.scores[scorer].astype(np.float64)
    users = np.repeat(part.users, part.candidates)
    new = np.repeat(part.attributes["item"] == "new", part.candidates)
    found: dict[str, Any] = {"auc": _auc(y, p), "auc_new": _auc(y[new], p[new])}
    of_users = [(_auc(y[users == user], p[users == user]), (users == user).sum()) for user in np.unique(users)]
    weighted = [(auc, pairs) for auc, pairs in of_users if not math.isnan(auc)]
    pairs = sum(pairs for _, pairs in weighted)
    found["gauc"] = sum(auc * pairs for auc, pairs in weighted) / pairs if weighted else math.nan
    by_impression = np.split(np.arange(y.size), np.cumsum(part.candidates)[:-1])
    ranked = [at for at in by_impression if 0 < y[at].sum() < at.size]
    found["ndcg"] = np.mean([ndcg_score([y[at]], [p[at]], k=10) for at in ranked])
    for name, of in (("mrr", lambda rank: 1 / rank), ("hit_rate", lambda rank: float(rank == 1))):
        found[name] = np.mean([_over_orders(y[at], p[at], of) for at in ranked])
    sizes = np.array([at.size for at in ranked])
    found["gauc_request"] = (np.array([_auc(y[at], p[at]) for at in ranked]) * sizes).sum() / sizes.sum()
    if scorer in ("model", "blessed"):
        found["log_loss"] = log_loss(y, np.clip(p, 1e-7, 1 - 1e-7), labels=[0, 1])
        found["normalised_entropy"] = found["log_loss"] / log_loss(y, np.full(y.size, y.mean()), labels=[0, 1])
        found["calibration"] = p.sum() / y.sum()
    if scorer == "model":
        found["gauc_users"] = len(weighted)
        found["gauc_users_skipped"] = len(of_users) - len(weighted)
        found |= {"pairs": y.size, "pairs_new": int(new.sum()), "example_count": rows.sum()}
    return found


def _auc(y: np.ndarray, p: np.ndarray) -> float:
    return roc_auc_score(y, p) if 0 < y.sum() < y.size else math.nan


def _over_orders(y: np.ndarray, p: np.ndarray, of: Callable[[int], float]) -> float:
    """The mean over all orders of the candidates in which the scores fall."""
    orders = [order for order in itertools.permutations(range(y.size)) if (np.diff(p[list(order)]) <= 0).all()]
    return float(np.mean([np.mean([of(1 + i) for i, at in enumerate(order) if y[at]]) for order in orders]))


@pytest.mark.parametrize(("negatives", "digits"), [(1, None), (3, 1)])
def test_metrics_are_those_of_other_implementations(negatives: int, digits: int | None) -> None:
    scored = simulated(5, 30, negatives=negatives, digits=digits)
    evaluation = judged(scored)
    for negative_set, name in itertools.product(
        ("contemporaneous", OVERALL), (WHOLE, "item:new", "hour:03", "user:cold")
    ):
        result, rows = evaluation.of(negative_set, name), rows_of(scored, negative_set, name)
        assert result is not None
        assert (result.impressions, result.pairs) == (rows.sum(), rows.sum() * (1 + negatives))
        assert (result.positives, result.users) == (rows.sum(), np.unique(scored.users[rows]).size)
        for scorer, values in result.metrics.items():
            found = {metric: np.nan if of.value is None else of.value for metric, of in values.items()}
            assert found == pytest.approx(slow(scored, rows, scorer), abs=1e-6, nan_ok=True)
            for metric, difference in result.differences.get(scorer, {}).items():
                less = result.metrics["model"][metric].value
                assert difference.value == (None if less is None else pytest.approx(less - found[metric], abs=1e-12))


def test_a_metric_of_pairs_is_the_one_of_sums() -> None:
    scored = simulated(6, 50, negatives=2, digits=1, sets=(2,))
    found = judged(scored).of("contemporaneous").metrics["model"]  # type: ignore[union-attr]
    pairs = Scores(scored, 100, 0).pairs(np.ones(scored.users.size, bool), "model")
    assert {name: METRICS[name].load()(pairs) for name in METRICS} == pytest.approx(
        {name: of.value for name, of in found.items()}, abs=1e-12
    )
    assert {name for name in METRICS if METRICS[name].of != "labels"} == {*SUMMED}


@given(seed=st.integers(0, 2**32), digits=st.sampled_from([0, 1, 7]))
@settings(max_examples=10, deadline=None)
def test_order_of_the_impressions_does_not_matter(seed: int, digits: int) -> None:
    rng = np.random.default_rng(seed)
    scored = simulated(seed, 35, digits=digits)
    there, turned = judged(scored), judged(taken(scored, rng.permutation(scored.users.size)))
    assert turned.verdict.blessed == there.verdict.blessed
    for one, other in zip(there.slices, turned.slices, strict=True):
        for field in ("metrics", "differences"):
            for scorer, metrics in getattr(one, field).items():
                for metric, value in metrics.items():
                    _same(value, getattr(other, field)[scorer][metric])
    for name, curves in there.curves.items():
        assert turned.curves[name].roc == curves.roc
        for scorer, bins in curves.reliability.items():
            same = zip(bins, turned.curves[name].reliability[scorer], strict=True)
            assert all(abs(a.observed - b.observed) < 1e-9 for a, b in same)


def _same(one: Value, other: Value) -> None:
    for a, b in zip(one.model_dump().values(), other.model_dump().values(), strict=True):
        assert a == b if a is None else a == pytest.approx(b, abs=1e-9)


def test_whole_sets_stand_before_their_slices_in_order() -> None:
    evaluation = judged(simulated(1, 60))
    names = [(each.negative_set, each.slice) for each in evaluation.slices]
    assert names[:3] == [("uniform", WHOLE), ("contemporaneous", WHOLE), (OVERALL, WHOLE)]
    of_set = [name for set_, name in names if set_ == "uniform"]
    assert of_set[1:7] == [f"history_length:{value}" for value in ("0", "1-4", "5-9", "10-19", "20-49", "50+")]
    assert of_set[-1] == "hour:23"
    assert len(names) == len(set(names))


def test_one_class_is_undefined_and_counted() -> None:
    scored = simulated(2, 80)
    # In hour 7 nothing happened, and it has no impressions in set uniform.
    hours = scored.attributes["hour"].copy()
    hours[(hours == "07") & (scored.negative_set == 0)] = "08"
    labels = scored.labels.copy()
    labels[np.repeat(hours == "07", 2)] = 0
    scored = dataclasses.replace(scored, labels=labels, attributes={**scored.attributes, "hour": hours})
    evaluation = judged(scored)
    assert evaluation.of("uniform", "hour:07") is None
    result = evaluation.of("contemporaneous", "hour:07")
    assert result is not None
    assert (result.positives, result.impressions) == (0, (hours == "07").sum())
    values = result.metrics["model"]
    assert {m for m in values if values[m].value is None} == {
        "auc", "auc_new", "gauc", "gauc_request", "ndcg", "mrr", "hit_rate", "normalised_entropy", "calibration"
    }  # fmt: skip
    assert (values["gauc_users"].value, values["gauc_users_skipped"].value) == (0, result.users)
    assert values["log_loss"].value is not None
    # Few users: a value, and no interval.
    few = evaluation.of("contemporaneous", "popularity:3")
    assert few is not None
    assert few.users < 30
    assert few.metrics["model"]["auc"].value is not None
    assert few.metrics["model"]["auc"].low is few.differences["blessed"]["auc"].high is None


def test_ranks_of_several_positives_and_of_none() -> None:
    found = ranks(np.array([3, 2, 2, 4, 0]), np.array([1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 1], bool), np.arange(11.0))
    assert found.ranked.tolist() == [True, False, False, True, False]
    assert found.mrr == pytest.approx([(1 / 2 + 1 / 3) / 2, 0, 0, (1 + 1 / 4) / 2, 0])
    assert found.hit_rate == pytest.approx([0, 0, 0, 0.5, 0])
    assert found.auc == pytest.approx([0, 0, 0, 0.5, 0])
    assert found.ndcg[0] == pytest.approx(ndcg_score([[1, 1, 0]], [[0, 1, 2]]))


def test_ndcg_looks_at_ten_ranks() -> None:
    rng = np.random.default_rng(3)
    y, p = np.zeros((50, 30), int), rng.integers(0, 9, (50, 30)) / 10
    y[np.arange(50), rng.integers(0, 30, 50)] = 1
    found = ranks(np.full(50, 30), y.ravel() > 0, p.ravel())
    assert found.ndcg == pytest.approx([ndcg_score([a], [b], k=10) for a, b in zip(y, p, strict=True)])


def test_points_of_the_roc_are_exact_and_few() -> None:
    rng = np.random.default_rng(4)
    y, p = rng.random(5000) < 0.4, rng.random(5000).round(3)
    found = roc(y, p + 0.2 * y)
    x, t, _ = roc_curve(y, p + 0.2 * y, drop_intermediate=False)
    exact = set(zip(x, t, strict=True))
    points = list(zip(found.false_positive_rate, found.true_positive_rate, strict=True))
    assert set(points) <= exact
    assert 150 < len(points) <= ROC_POINTS
    assert (points[0], points[-1]) == ((0, 0), (1, 1))
    assert sk_area(*np.array(points).T) == pytest.approx(roc_auc_score(y, p + 0.2 * y), abs=1e-3)
    assert roc(np.ones(3, bool), np.arange(3.0)).true_positive_rate == (0, 1)


def test_bins_of_the_reliability_diagram_hold_equally_many() -> None:
    rng = np.random.default_rng(4)
    p = rng.random(2007).astype(np.float32)
    y = rng.random(2007) < p
    found = reliability(y, p)
    assert len(found) == RELIABILITY_BINS
    assert {each.pairs for each in found} == {100, 101}
    at = np.argsort(p)[: found[0].pairs]
    assert (found[0].predicted, found[0].observed) == pytest.approx((p[at].mean(), y[at].mean()))
    # One probability: each bin says the same.
    constant = reliability(np.arange(200) % 4 == 0, np.full(200, 0.5, np.float32))
    assert {each.observed for each in constant} == {0.25}
    assert len(reliability(y[:3], p[:3])) == 3


@pytest.mark.parametrize(
    ("scorer", "value", "says"),
    [
        ("model", np.nan, "model: 1 of 20 scores are NaN: the model diverged"),
        ("blessed", 1.5, "blessed: 1 of 20 scores are no probabilities"),
        ("logistic_regression", np.nan, "logistic_regression: 1 of 20 scores are NaN"),
    ],
)
def test_a_score_that_is_none_is_refused(scorer: str, value: float, says: str) -> None:
    scored = taken(simulated(1), np.arange(10))
    scored.scores[scorer][3] = value
    with pytest.raises(DataError, match=says):
        judged(scored)


def test_a_value_that_an_attribute_cannot_have_is_refused() -> None:
    scored = taken(simulated(1), np.arange(10))
    scored.attributes["item"][4] = "old"
    with pytest.raises(DataError, match=r"item is 'old' in row 4; expected new, seen"):
        judged(scored)


def test_features_are_slices_in_the_order_of_their_numbers() -> None:
    scored = simulated(1)
    values = np.random.default_rng(1).integers(1, 13, scored.users.size)
    scored = dataclasses.replace(scored, attributes={**scored.attributes, "candidate_price": values.astype(str)})
    names = [each.slice for each in judged(scored).slices if each.negative_set == "uniform"]
    assert names[-12:] == [f"candidate_price:{value}" for value in range(1, 13)]
    many = {**scored.attributes, "candidate_item_id": np.arange(scored.users.size).astype(str)}
    with pytest.raises(DataError, match=r"evaluation\.slices: candidate_item_id has .* at most 200"):
        judged(dataclasses.replace(scored, attributes=many))


def test_a_plugins_metric_is_computed_of_the_models_on_each_slice(plugins: Path) -> None:
    load_plugins(["my_shop.brier"])
    scored = simulated(1)
    result = judged(scored).of("contemporaneous", "item:seen")
    assert result is not None
    part = taken(scored, np.flatnonzero(rows_of(scored, "contemporaneous", "item:seen")))
    assert result.metrics["model"]["brier"].value == pytest.approx(((part.scores["model"] - part.labels) ** 2).mean())
    assert result.metrics["model"]["brier"].low is None
    assert "brier" in result.differences["blessed"]
    assert "brier" not in result.metrics["logistic_regression"]


def test_attributes_of_impressions() -> None:
    counts = np.array([1] * 40 + [10] * 4 + [5] * 4)
    bounds = popularity_bounds(counts)
    # 40 of 100 events are of items that occur once, 20 of ones that occur 5 times, 40 of ones that occur 10 times.
    assert bounds.tolist() == [1, 1, 1, 1, 5, 5, 10, 10, 10]
    found = attributes(
        timestamps=np.array([1511539200, 1511539199, 1511568000]),  # 2017-11-25 00:00:00 in Shanghai
        history_length=np.array([0, 4, 50]),
        target_behavior=np.array([1, 4, 2]),
        item_seen=np.array([False, True, False]),
        category_seen=np.array([True, True, False]),
        target_count=np.array([0, 1, 11]),
        bounds=bounds,
        user_known=np.array([False, True, True]),
        features={"candidate_price": np.array([3, 12, 7])},
        zone=PUBLIC_LOG.zone,
    )
    assert {name: values.tolist() for name, values in found.items()} == {
        "history_length": ["0", "1-4", "50+"],
        "behavior": ["pv", "buy", "cart"],
        "item": ["new", "seen", "new"],
        "category": ["seen", "seen", "new"],
        "catalogue": ["cold", "known", "known"],
        "user": ["cold", "known", "known"],
        "popularity": ["0", "1", "10"],
        "hour": ["00", "23", "08"],
        "candidate_price": ["3", "12", "7"],
    }
    assert popularity_bounds(np.array([], np.int64)).tolist() == [0] * 9


def test_tenths_of_popularity_have_about_a_tenth_of_the_events() -> None:
    counts = np.random.default_rng(0).lognormal(3, 1, 20_000).astype(np.int64)
    share = np.bincount(np.searchsorted(popularity_bounds(counts), counts), weights=counts) / counts.sum()
    assert share == pytest.approx([0.1] * 10, abs=0.01)
