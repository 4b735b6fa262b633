from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format
from tensorflow_model_analysis.proto import config_pb2
from tfx.components.example_validator import executor as validator
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.types import standard_component_specs

from ctr.components import keys
from ctr.components.anomaly_gate import component as gate_component
from ctr.components.evaluator import scoring
from ctr.components.evaluator.component import Evaluator
from ctr.components.evaluator.judge import evaluator_config
from ctr.components.scoring.pair_metrics import PairMetrics
from ctr.components.settings import EvaluationConfig


def thresholds(
    auc: dict[str, Any], others: dict[str, Any] | None = None, **settings: Any
) -> list[tuple[str, Any, Any]]:
    """Metric, slice and threshold of each bound."""
    bounds = {"auc": auc, **(others or {})}
    made = evaluator_config(EvaluationConfig.model_validate({"bounds": bounds, **settings}))
    (spec,) = json_format.Parse(made, config_pb2.EvalConfig()).metrics_specs
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
    assert gate.change_threshold.direction == config_pb2.MetricDirection.HIGHER_IS_BETTER


def test_a_bound_is_for_its_slice_and_in_the_metrics_direction() -> None:
    others = {"auc@overall": {"max": 0.95}, "log_loss@uniform": {"max_drop": 0.02}}
    _, (_, where, overall), (name, uniform, loss) = thresholds({"min": 0.8}, others)
    assert (where, overall.value_threshold.upper_bound.value) == ({}, 0.95)
    assert (name, uniform) == ("log_loss", {"negative_set": "uniform"})
    assert loss.change_threshold.absolute.value == pytest.approx(0.02)
    assert loss.change_threshold.direction == config_pb2.MetricDirection.LOWER_IS_BETTER
    assert not loss.HasField("value_threshold")


def test_without_comparison_only_the_bounds_of_values_are_left() -> None:
    ((_, _, gate),) = thresholds({"min": 0.8}, compare_with_blessed=False)
    assert gate.HasField("value_threshold")
    assert not gate.HasField("change_threshold")


def test_an_upper_bound_of_null_is_none_at_all() -> None:
    ((_, _, gate),) = thresholds({"min": 0.995, "max": None})
    assert not gate.value_threshold.HasField("upper_bound")


def test_what_is_named_and_not_imported_has_these_names() -> None:
    for name, value in vars(keys).items():
        if name.isupper():
            assert getattr(standard_component_specs, f"{name}_KEY") == value
    assert gate_component.ANOMALIES_FILE == validator.DEFAULT_FILE_NAME
    assert gate_component.STATISTICS_FILE == stats_artifact_utils.BINARY_PB_BASENAME
    assert Evaluator.parameters("")[keys.MODULE_PATH] == scoring.__name__
    config = json_format.Parse(
        evaluator_config(EvaluationConfig.model_validate({"bounds": {"auc": {"min": 0.8}}})), config_pb2.EvalConfig()
    )
    (metric,) = config.metrics_specs[0].metrics
    assert f"{metric.module}.{metric.class_name}" == f"{PairMetrics.__module__}.{PairMetrics.__name__}"
