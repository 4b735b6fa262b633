"""Intervals hold the truth as often as they say, and a resample is what it would be if it were drawn."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pytest
from simulated import simulated

from ctr.components.scoring import bootstrap
from ctr.components.scoring.bootstrap import FEWEST_UNITS, Resampler, interval
from ctr.components.scoring.evaluation import Value
from ctr.components.scoring.measure import Scores, SetMeasures, rows_of
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.sums import SUMMED

METRICS = ("auc", "gauc", "log_loss", "calibration", "ndcg")


def population(seed: int, users: int) -> Scored:
    return simulated(seed, users, sets=(2,), noise={"model": 0.4, "blessed": 0.5}, sliced=False)


def found(scored: Scored) -> Iterator[tuple[str, Value]]:
    result = next(SetMeasures(Scores(scored, 400, 2017), "contemporaneous").results(0.95))
    for metric in METRICS:
        yield metric, result.metrics["model"][metric]
        yield f"{metric}, paired", result.differences["blessed"][metric]


def coverage(one_user_an_impression: bool, datasets: int) -> dict[str, float]:
    truth = {name: value.value for name, value in found(population(0, 40_000))}
    inside = dict.fromkeys(truth, 0)
    for seed in range(1, datasets + 1):
        scored = population(seed, 60)
        if one_user_an_impression:
            scored = dataclasses.replace(scored, users=np.arange(scored.users.size))
        for name, value in found(scored):
            inside[name] += value.low <= truth[name] <= value.high  # type: ignore[operator]
    return {name: count / datasets for name, count in inside.items()}


def test_intervals_hold_the_truth_in_95_of_100_data_sets() -> None:
    # 300 data sets of 60 users: a share of 0.95 has a standard error of 0.013, and the worst of ten is looked at.
    shares = coverage(False, 300)
    assert all(0.9 <= share <= 0.985 for share in shares.values()), str(shares)


def test_resampling_impressions_instead_would_give_intervals_that_are_too_narrow() -> None:
    assert coverage(True, 100)["log_loss"] < 0.9


def test_a_resample_of_sums_is_the_resample_of_the_pairs() -> None:
    scored = population(3, 150)
    scores = Scores(scored, 100, 7)
    measures = SetMeasures(scores, "contemporaneous")
    rows = rows_of(scored, "contemporaneous")
    for metric in SUMMED:
        of_sums = measures._measured["model"][metric].resampled
        assert of_sums is not None
        drawn, linear = scores.resampled(metric, rows, "model"), of_sums[:, 0]
        if not metric.startswith("auc"):
            np.testing.assert_allclose(linear, drawn, rtol=1e-9)
            continue
        # To first order: what is left out is small beside what users make it vary.
        deviation = drawn.std()
        assert np.abs(linear - drawn).max() < 0.25 * deviation
        assert linear.std() == pytest.approx(deviation, rel=0.03)
        assert abs((linear - drawn).mean()) < 0.1 * deviation


def test_groups_of_users_vary_as_users_do(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = population(4, 1500)
    widths = []
    for units in (2000, 300):
        monkeypatch.setattr(bootstrap, "MOST_UNITS", units)
        assert Resampler(scored.users, 10).units == min(1500, units)
        widths.append({name: value.high - value.low for name, value in found(scored)})  # type: ignore[operator]
    assert widths[1] == pytest.approx(widths[0], rel=0.2)


def test_equal_users_and_seeds_are_resampled_alike() -> None:
    users = np.array([5, 3, 5, 9, 3])
    one, other = Resampler(users, 100, 1), Resampler(users[::-1], 100, 1)
    assert (one.weights == other.weights).all()
    assert (one.unit == other.unit[::-1]).all()
    assert (one.weights.sum(axis=1) == 3).all()
    assert (Resampler(users, 100, 2).weights != one.weights).any()


def test_there_is_no_interval_of_few_users() -> None:
    resampled = np.random.default_rng(0).normal(size=(1000, 3))
    low, high = interval(resampled, np.array([FEWEST_UNITS, FEWEST_UNITS - 1, 10**6]), 0.95)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, False]
    # Wider for few users.
    assert high[0] - low[0] > high[2] - low[2] == pytest.approx(3.92, abs=0.15)
    resampled[3, 0] = np.nan
    assert np.isnan(interval(resampled, np.array([50, 50, 50]), 0.95)[0]).tolist() == [True, False, False]


def test_equal_scores_differ_by_nothing_surely() -> None:
    scored = population(5, 60)
    scored = dataclasses.replace(scored, scores={"model": scored.scores["model"], "blessed": scored.scores["model"]})
    for name, value in found(scored):
        if "paired" in name:
            assert (value.low, value.value, value.high) == (0, 0, 0)
