"""Each bound at its edge, in words; and what a regression has to be to be caught."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated import simulated, taken

from ctr.components.scoring.auc import auc
from ctr.components.scoring.evaluation import BoundResult, Evaluation
from ctr.components.scoring.judge import COMPARISON_WORDS, Comparison, judge
from ctr.components.scoring.measure import Scores
from ctr.components.scoring.rows import empty_bounds, rows_of
from ctr.components.scoring.scored import Scored
from ctr.components.settings import EvaluationConfig
from ctr.models.registration import load_plugins

SCORED = simulated(11, 120, sets=(2,))
# The model is the worse one: no drop can be below 0.
TURNED = dataclasses.replace(
    SCORED, scores={**SCORED.scores, "model": SCORED.scores["blessed"], "blessed": SCORED.scores["model"]}
)
NO_BOUNDS = {"min": 0.01, "max": None, "max_drop": None, "min_margin": None}


def config(of_auc: dict[str, Any] | None = None, **others: Any) -> EvaluationConfig:
    """No bounds but those that are named, and a lower one of the AUC that is always met."""
    bounds = {"auc": {**NO_BOUNDS, **(of_auc or {})}, **others.pop("bounds", {})}
    return EvaluationConfig.model_validate({"bounds": bounds, "resamples": 300, **others})


def judged(settings: EvaluationConfig, scored: Scored = SCORED, comparison: Comparison = "compared") -> Evaluation:
    return judge(scored, settings, "contemporaneous", comparison)


def last(evaluation: Evaluation) -> BoundResult:
    return evaluation.verdict.bounds[-1]


def value(evaluation: Evaluation, metric: str = "auc", slice_: str = "", scorer: str = "model") -> float:
    result = evaluation.of("contemporaneous", slice_)
    assert result is not None
    found = result.metrics[scorer][metric].value
    assert found is not None
    return found


def below(number: float) -> float:
    return float(np.nextafter(number, -1))


def above(number: float) -> float:
    return float(np.nextafter(number, 2))


def test_a_value_at_its_bound_is_met_and_one_beyond_it_is_not() -> None:
    at = value(judged(config()))
    for kind, met, missed in (("min", at, above(at)), ("max", at, below(at))):
        assert last(judged(config({kind: met}))).state == "met"
        evaluation = judged(config({kind: missed}))
        [bound] = evaluation.verdict.missed
        assert (bound.kind, bound.bound, bound.confidence, bound.against) == (kind, missed, None, None)
        assert bound.short_by == pytest.approx(0, abs=1e-15)
        assert not evaluation.verdict.blessed


def test_without_confidence_the_difference_itself_decides() -> None:
    drop = value(judged(config(), TURNED), scorer="blessed") - value(judged(config(), TURNED))
    margin = value(judged(config())) - value(judged(config()), scorer="logistic_regression")
    for kind, scored, bound, met, missed in (
        ("max_drop", TURNED, drop, above(drop), below(below(drop))),
        ("min_margin", SCORED, margin, below(margin), above(above(margin))),
    ):
        assert bound > 0
        assert last(judged(config({kind: met, "confidence": None}), scored)).state == "met"
        found = last(judged(config({kind: missed, "confidence": None}), scored))
        assert (found.state, found.confidence) == ("missed", None)
        assert found.measured is not None
        assert found.measured.low is None


@pytest.mark.parametrize("metric", ["auc", "log_loss"])
def test_with_confidence_the_worse_end_decides(metric: str) -> None:
    settings = {"min": 0.1, "max_drop": 9.0, "confidence": 0.9, "min_margin": None}
    bound = last(judged(config(bounds={metric: settings}), TURNED))
    assert bound.measured is not None
    assert (bound.state, bound.against, bound.confidence) == ("met", "blessed", 0.9)
    assert bound.measured.low < bound.measured.value < bound.measured.high  # type: ignore[operator]
    drop = bound.measured.high if metric == "log_loss" else -bound.measured.low  # type: ignore[operator]
    assert drop is not None
    assert drop > 0
    assert last(judged(config(bounds={metric: {**settings, "max_drop": above(drop)}}), TURNED)).state == "met"
    missed = last(judged(config(bounds={metric: {**settings, "max_drop": drop - 0.001}}), TURNED))
    assert missed.state == "missed"
    assert missed.short_by == pytest.approx(0.001)
    assert missed.words.endswith("worse: missed by 0.0010")
    # More confidence is a wider interval.
    assert (
        last(judged(config(bounds={metric: {**settings, "max_drop": above(drop), "confidence": 0.99}}), TURNED)).state
        == "missed"
    )


def test_a_margin_is_over_one_baseline_or_the_best_of_them() -> None:
    scores = {**SCORED.scores, "popularity": SCORED.scores["blessed"], "coldness": np.zeros(SCORED.labels.size)}
    scored = dataclasses.replace(SCORED, scores={k: v.astype(np.float32) for k, v in scores.items()})
    for over, against in (("logistic_regression", "logistic_regression"), ("best", "popularity")):
        bound = last(judged(config({"min_margin": 0.5, "margin_over": over}), scored))
        assert (bound.kind, bound.against, bound.state) == ("min_margin", against, "missed")
    evaluation = judged(config({"min_margin": 0.0}, bounds={"auc@overall/item:new": {"min_margin": 0.0}}), scored)
    assert [bound.state for bound in evaluation.verdict.bounds] == ["met"] * 3
    assert (last(evaluation).negative_set, last(evaluation).slice) == ("overall", "item:new")


def test_a_model_below_logistic_regression_is_not_blessed_by_default() -> None:
    scores = SCORED.scores
    turned = {**scores, "model": scores["logistic_regression"] * 0 + 0.5, "logistic_regression": scores["model"]}
    settings = EvaluationConfig.model_validate({"bounds": {"auc": {"min": 0.1}}, "resamples": 200})
    evaluation = judged(settings, dataclasses.replace(SCORED, scores={**turned, "blessed": turned["model"]}))
    assert [(bound.kind, bound.state) for bound in evaluation.verdict.bounds] == [
        ("min", "met"),
        ("max", "met"),
        ("max_drop", "met"),
        ("min_margin", "missed"),
    ]
    assert "reaches 0.7" in evaluation.verdict.look_first
    assert "less than a trivial rule" in evaluation.verdict.look_first


@pytest.mark.parametrize(("drop", "noise", "met"), [(0.0005, 0.408, 7), (0.01, 0.54, 0)])
def test_a_regression_of_a_hundredth_is_caught_and_one_of_half_a_thousandth_is_not(
    drop: float, noise: float, met: int
) -> None:
    """With 4,000 users of 4.5 impressions, and models whose errors are as independent as those of two trainings."""

    def with_users(seed: int, users: int) -> Scored:
        return simulated(seed, users, sets=(2,), noise={"blessed": 0.4, "model": noise}, sliced=False)

    many = with_users(0, 200_000)
    blessed, model = (auc(many.labels, many.scores[name]) for name in ("blessed", "model"))
    assert blessed - model == pytest.approx(drop, abs=0.0003)
    settings = config({"max_drop": 0.005})
    states = [last(judged(settings, with_users(seed, 4000))).state for seed in range(1, 9)]
    assert states.count("met") >= met if met else "met" not in states


def test_a_bound_with_confidence_on_few_users_is_missed_and_says_so() -> None:
    scored = taken(SCORED, np.flatnonzero(np.isin(SCORED.users, np.unique(SCORED.users)[:20])))
    bound = last(judged(config({"max_drop": 1.0}), scored))
    assert bound.state == "missed"
    assert bound.short_by is None
    assert "20 users give no interval (it takes 30)" in bound.words
    assert "set confidence to null" in bound.words
    assert last(judged(config({"max_drop": 1.0, "confidence": None}), scored)).state == "met"


def test_undefined_and_absent_are_missed() -> None:
    labels = SCORED.labels.copy()
    labels[np.repeat(SCORED.attributes["hour"] == "07", 2)] = 0
    attributes = {
        **SCORED.attributes,
        "hour": np.where(SCORED.attributes["hour"] == "08", "09", SCORED.attributes["hour"]),
    }
    scored = dataclasses.replace(SCORED, labels=labels, attributes=attributes)
    bounds = {f"auc/hour:{hour}": {"min": 0.1, "max_drop": 1.0} for hour in ("07", "08")}
    evaluation = judged(config(bounds={**bounds, "auc@same_category": {"min": 0.1}}), scored)
    words = [bound.words for bound in evaluation.verdict.missed]
    assert [" is undefined: one class only" in text for text in words] == [True, True, False, False, False]
    assert ["no such evaluation impressions" in text for text in words] == [False, False, True, True, True]
    assert all(bound.short_by is None for bound in evaluation.verdict.missed)
    judged_rows = rows_of(scored, "contemporaneous").sum()
    words = empty_bounds(scored, [*bounds, "auc@same_category"], "contemporaneous")
    assert [text.partition(";")[0] for text in words] == [
        f"evaluation.bounds.auc/hour:08: none of the {judged_rows} impressions of negative set contemporaneous is in "
        "slice hour:08",
        "evaluation.bounds.auc@same_category: the eval split has no impressions of negative set same_category",
    ]


@pytest.mark.parametrize("comparison", ["first", "switched_off", "incompatible"])
def test_without_scores_of_a_blessed_model_drops_decide_nothing(comparison: Comparison) -> None:
    scores = {name: of for name, of in SCORED.scores.items() if name != "blessed"}
    scored = dataclasses.replace(SCORED, scores=scores)
    evaluation = judged(config({"max_drop": 0.0}), scored, comparison)
    assert (last(evaluation).state, last(evaluation).measured) == ("not_compared", None)
    assert evaluation.verdict.blessed == (comparison != "incompatible")
    assert evaluation.verdict.comparison_words == COMPARISON_WORDS[comparison]
    assert "blessed" not in evaluation.slices[0].metrics
    if comparison == "incompatible":
        assert "compare_with_blessed=false" in evaluation.verdict.look_first
    with pytest.raises(ValueError, match=f"comparison is {comparison}, but the scorers are model, blessed"):
        judged(config(), SCORED, comparison)


def test_too_good_names_the_baseline_that_is_as_good() -> None:
    scores = {**SCORED.scores, "coldness": SCORED.labels.astype(np.float32), "model": SCORED.labels.astype(np.float32)}
    evaluation = judged(config({"max": 0.99}), dataclasses.replace(SCORED, scores=scores))
    assert evaluation.verdict.look_first.startswith("Coldness alone is above it, too: start there.")
    assert "swapped columns" in evaluation.verdict.look_first


def test_the_slice_that_lost_is_looked_at_first() -> None:
    broken = np.repeat(SCORED.attributes["behavior"] == "cart", 2)
    scores = {**SCORED.scores, "model": np.where(broken, 0.5, SCORED.scores["blessed"]).astype(np.float32)}
    evaluation = judged(config({"max_drop": 0.005}), dataclasses.replace(SCORED, scores=scores))
    assert last(evaluation).state == "missed"
    assert "The slice behavior:cart (" in evaluation.verdict.look_first


def test_a_drop_that_the_users_are_too_few_to_rule_out_is_told_from_a_loss() -> None:
    bound = last(judged(config({"max_drop": 0.5}), TURNED)).measured
    assert bound is not None
    room = -bound.value + 0.001  # type: ignore[operator]
    evaluation = judged(config({"max_drop": room}), TURNED)
    assert last(evaluation).state == "missed"
    assert "The difference itself keeps to the bound" in evaluation.verdict.look_first
    assert "slice" not in evaluation.verdict.look_first


def test_a_log_loss_above_its_bound_is_too_bad_and_one_below_it_too_good() -> None:
    for bounds, too_good in (({"max": 0.1}, False), ({"min": 0.9}, True)):
        look_first = judged(config(bounds={"log_loss": bounds})).verdict.look_first
        assert ("swapped columns" in look_first) == too_good
        assert ("It is worst on " in look_first) != too_good


def test_a_value_that_is_just_met_is_looked_at() -> None:
    at = value(judged(config()))
    assert judged(config({"min": at - 0.001})).verdict.look_first.startswith("Met by less than the interval is wide")
    assert judged(config({"min": 0.2})).verdict.look_first == ""


def test_a_plugins_metric_is_resampled_where_a_bound_asks(plugins: Path) -> None:
    load_plugins(["my_shop.brier"])
    settings = config(bounds={"brier/item:new": {"max_drop": 1.0}})
    bound = last(judged(settings))
    assert bound.measured is not None
    assert bound.state == "met"
    assert bound.measured.low < bound.measured.value < bound.measured.high  # type: ignore[operator]
    # As if it were a ratio of sums, which it is.
    scores = Scores(SCORED, 300, 2017)
    rows = rows_of(SCORED, "contemporaneous", "item:new")
    users, loss = [], []
    for scorer in ("model", "blessed"):
        pairs = scores.pairs(rows, scorer)
        loss.append((pairs.predictions - pairs.labels) ** 2)
        users.append(pairs.users)
    unit = scores.resampler.unit[np.flatnonzero(rows)].repeat(2)
    sums = np.bincount(unit, loss[0] - loss[1], scores.resampler.units)
    size = np.bincount(unit, minlength=scores.resampler.units)
    resampled = scores.resampler.weights @ sums / (scores.resampler.weights @ size)
    assert bound.measured.low == pytest.approx(np.quantile(resampled, 0.05), abs=0.1 * resampled.std())
