"""What the Evaluator computes and what a model must reach to be blessed."""

from __future__ import annotations

import json
from typing import Any

from ctr.components.scoring.metrics import METRICS, OVERALL, Metric
from ctr.components.settings import Bounds, EvaluationConfig
from ctr.models.impression import CONTEMPORANEOUS, LABEL, NEGATIVE_SET
from ctr.serving.signatures import DEFAULT_SIGNATURE, PROBABILITY


def evaluator_config(evaluation: EvaluationConfig, judged_set: str = CONTEMPORANEOUS) -> str:
    """All metrics there are, overall and by negative set, and the bounds.

    Labels and probabilities are [N] in an impression, and make N pairs. :mod:`ctr.components.evaluator.scoring` makes
    them, :class:`ctr.components.scoring.pair_metrics.PairMetrics` computes the metrics.

    Args:
      judged_set: what the bounds are for that name no slice.
      evaluation: the bounds. Without ``compare_with_blessed`` those of the values decide alone, as they do on a first
        run, when there is no blessed model.

    Returns:
      JSON of a ``tensorflow_model_analysis.proto.config_pb2.EvalConfig``.
    """
    functions = {name: METRICS[name].path for name in METRICS}
    thresholds: dict[str, dict[str, list[Any]]] = {}
    for bound in evaluation.bounds.each(judged_set):
        features = {} if bound.negative_set == OVERALL else {NEGATIVE_SET: bound.negative_set}
        threshold = _threshold(bound.bounds, METRICS[bound.metric], evaluation.compare_with_blessed)
        thresholds.setdefault(bound.metric, {"thresholds": []})["thresholds"].append(
            {"slicing_specs": [{"feature_values": features}], "threshold": threshold}
        )
    metric = {
        "class_name": "PairMetrics",
        "module": "ctr.components.scoring.pair_metrics",
        "config": json.dumps({"functions": functions}),
    }
    config = {
        "model_specs": [{"signature_name": DEFAULT_SIGNATURE, "prediction_key": PROBABILITY, "label_key": LABEL}],
        "slicing_specs": [{}, {"feature_keys": [NEGATIVE_SET]}],
        "metrics_specs": [{"metrics": [metric], "per_slice_thresholds": thresholds}],
    }
    return json.dumps(config, indent=2, sort_keys=True)


def _threshold(bounds: Bounds, metric: Metric, compare: bool) -> dict[str, Any]:
    threshold: dict[str, Any] = {}
    values = {"lower_bound": bounds.min, "upper_bound": bounds.max}
    if any(value is not None for value in values.values()):
        threshold["value_threshold"] = {name: value for name, value in values.items() if value is not None}
    if bounds.max_drop is not None and compare:
        lower = metric.better == "lower"
        threshold["change_threshold"] = {
            "direction": "LOWER_IS_BETTER" if lower else "HIGHER_IS_BETTER",
            "absolute": bounds.max_drop if lower else -bounds.max_drop,
        }
    return threshold
