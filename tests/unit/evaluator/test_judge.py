from __future__ import annotations

import json

import pytest
import tensorflow_model_analysis as tfma

from components.evaluator.judge import evaluator_config
from components.settings import EvaluationConfig


def gates(config: tfma.EvalConfig) -> list[tuple[str, tfma.PerSliceMetricThreshold]]:
    return [
        (json.loads(metric.config)["name"], gate)
        for spec in config.metrics_specs
        for metric in spec.metrics
        for gate in metric.per_slice_thresholds
    ]


def test_the_gate_is_auc_on_contemporaneous_negatives() -> None:
    ((name, gate),) = gates(evaluator_config(EvaluationConfig(min_auc=0.8, max_auc_drop=0.01)))
    assert name == "auc"
    assert [dict(spec.feature_values) for spec in gate.slicing_specs] == [{"negative_set": "contemporaneous"}]
    assert gate.threshold.value_threshold.lower_bound.value == pytest.approx(0.8)
    assert gate.threshold.value_threshold.upper_bound.value == pytest.approx(0.99)
    assert gate.threshold.change_threshold.absolute.value == pytest.approx(-0.01)
    assert gate.threshold.change_threshold.direction == tfma.MetricDirection.HIGHER_IS_BETTER


def test_without_comparison_only_the_lower_bound_is_left() -> None:
    ((_, gate),) = gates(evaluator_config(EvaluationConfig(min_auc=0.8, compare_with_blessed=False)))
    assert gate.threshold.HasField("value_threshold")
    assert not gate.threshold.HasField("change_threshold")


def test_an_upper_bound_of_null_is_none_at_all() -> None:
    ((_, gate),) = gates(evaluator_config(EvaluationConfig(min_auc=0.995, max_auc=None)))
    assert not gate.threshold.value_threshold.HasField("upper_bound")


def test_bounds_that_no_model_can_meet_are_refused() -> None:
    with pytest.raises(ValueError, match=r"max_auc 0\.99 must be above min_auc 0\.995, or null"):
        EvaluationConfig(min_auc=0.995)
