from __future__ import annotations

from typing import Any

import pytest
import tensorflow_model_analysis as tfma

from ctr.components.evaluator.judge import evaluator_config
from ctr.components.settings import EvaluationConfig


def thresholds(
    auc: dict[str, Any], others: dict[str, Any] | None = None, **settings: Any
) -> list[tuple[str, Any, Any]]:
    """Metric, slice and threshold of each bound."""
    bounds = {"auc": auc, **(others or {})}
    (spec,) = evaluator_config(EvaluationConfig.model_validate({"bounds": bounds, **settings})).metrics_specs
    return [
        (name, dict(sliced.slicing_specs[0].feature_values), sliced.threshold)
        for name, of_metric in sorted(spec.per_slice_thresholds.items())
        for sliced in of_metric.thresholds
    ]


def test_the_gate_is_auc_on_contemporaneous_negatives() -> None:
    ((name, where, gate),) = thresholds({"min": 0.8, "max_drop": 0.01})
    assert (name, where) == ("auc", {"negative_set": "contemporaneous"})
    assert gate.value_threshold.lower_bound.value == pytest.approx(0.8)
    assert gate.value_threshold.upper_bound.value == pytest.approx(0.99)
    assert gate.change_threshold.absolute.value == pytest.approx(-0.01)
    assert gate.change_threshold.direction == tfma.MetricDirection.HIGHER_IS_BETTER


def test_a_bound_is_for_its_slice_and_in_the_metrics_direction() -> None:
    others = {"auc@overall": {"max": 0.95}, "log_loss@uniform": {"max_drop": 0.02}}
    _, (_, where, overall), (name, uniform, loss) = thresholds({"min": 0.8}, others)
    assert (where, overall.value_threshold.upper_bound.value) == ({}, 0.95)
    assert (name, uniform) == ("log_loss", {"negative_set": "uniform"})
    assert loss.change_threshold.absolute.value == pytest.approx(0.02)
    assert loss.change_threshold.direction == tfma.MetricDirection.LOWER_IS_BETTER
    assert not loss.HasField("value_threshold")


def test_without_comparison_only_the_bounds_of_values_are_left() -> None:
    ((_, _, gate),) = thresholds({"min": 0.8}, compare_with_blessed=False)
    assert gate.HasField("value_threshold")
    assert not gate.HasField("change_threshold")


def test_an_upper_bound_of_null_is_none_at_all() -> None:
    ((_, _, gate),) = thresholds({"min": 0.995, "max": None})
    assert not gate.value_threshold.HasField("upper_bound")
