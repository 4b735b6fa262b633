"""What the Evaluator computes and what a model must reach to be blessed."""

from __future__ import annotations

import json

import tensorflow_model_analysis as tfma

from components.scoring import pair_metrics
from components.settings import EvaluationConfig
from models.impression import CONTEMPORANEOUS, LABEL, NEGATIVE_SET
from serving.requests import DEFAULT_SIGNATURE, PROBABILITY


def evaluator_config(evaluation: EvaluationConfig, judged_set: str = CONTEMPORANEOUS) -> tfma.EvalConfig:
    """Metrics overall and by negative set; the gate is the AUC on one negative set.

    Labels and probabilities are [N] in an impression, and make N pairs. For the metrics see
    :class:`components.scoring.pair_metrics.PairMetrics`; :mod:`components.evaluator.scoring` makes the pairs.

    Args:
      judged_set: whose AUC the bounds are for.
      evaluation: the bounds. Without ``compare_with_blessed`` those of the AUC itself decide alone, as they do on a
        first run, when there is no blessed model.
    """
    bounds = tfma.GenericValueThreshold(lower_bound={"value": evaluation.min_auc})
    if evaluation.max_auc is not None:
        bounds.upper_bound.value = evaluation.max_auc
    threshold = tfma.MetricThreshold(value_threshold=bounds)
    if evaluation.compare_with_blessed:
        threshold.change_threshold.CopyFrom(
            tfma.GenericChangeThreshold(
                direction=tfma.MetricDirection.HIGHER_IS_BETTER, absolute={"value": -evaluation.max_auc_drop}
            )
        )
    gate = tfma.PerSliceMetricThreshold(
        slicing_specs=[tfma.SlicingSpec(feature_values={NEGATIVE_SET: judged_set})], threshold=threshold
    )
    metrics = [
        tfma.MetricConfig(
            class_name=pair_metrics.PairMetrics.__name__,
            module=pair_metrics.__name__,
            config=json.dumps({"name": pair_metrics.AUC}),
            per_slice_thresholds=[gate],
        ),
    ]
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=DEFAULT_SIGNATURE, prediction_key=PROBABILITY, label_key=LABEL)],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[NEGATIVE_SET])],
        metrics_specs=[tfma.MetricsSpec(metrics=metrics)],
    )
