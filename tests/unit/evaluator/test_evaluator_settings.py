from __future__ import annotations

from tfx.components.example_validator import executor as validator
from tfx.components.statistics_gen import stats_artifact_utils
from tfx.types import standard_component_specs

from ctr.components import keys
from ctr.components.evaluator.settings import EvaluatorSettings
from ctr.components.scoring.metrics import METRICS
from ctr.components.settings import EvaluationConfig


def test_the_evaluator_is_told_all_that_it_judges_by_and_no_more() -> None:
    evaluation = EvaluationConfig.model_validate(
        {"bounds": {"auc": {"min": 0.8}}, "baseline_training_impressions": 500}
    )
    told = EvaluatorSettings.of(evaluation, "uniform").to_json()
    assert "baseline_training_impressions" not in told
    read = EvaluatorSettings.model_validate_json(told)
    assert read.evaluation.bounds == evaluation.bounds
    assert read.judged_set == "uniform"
    assert read.metrics == {name: METRICS[name].path for name in METRICS}


def test_what_is_named_and_not_imported_has_these_names() -> None:
    for name, value in vars(keys).items():
        if name.isupper() and not name.endswith("_FILE"):
            assert getattr(standard_component_specs, f"{name}_KEY") == value
    assert keys.ANOMALIES_FILE == validator.DEFAULT_FILE_NAME
    assert keys.STATISTICS_FILE == stats_artifact_utils.BINARY_PB_BASENAME
