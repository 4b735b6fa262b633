"""What the Evaluator computes and what a model must reach to be blessed."""

from __future__ import annotations

import json

import tensorflow_model_analysis as tfma

from ctr.components.scoring import pair_metrics
from ctr.components.scoring.metrics import METRICS, OVERALL, Metric
from ctr.components.settings import Bounds, EvaluationConfig
from ctr.models.impression import CONTEMPORANEOUS, LABEL, NEGATIVE_SET
from ctr.serving.requests import DEFAULT_SIGNATURE, PROBABILITY


def evaluator_config(evaluation: EvaluationConfig, judged_set: str = CONTEMPORANEOUS) -> tfma.EvalConfig:
    """All metrics there are, overall and by negative set, and the bounds.

    Labels and probabilities are [N] in an impression, and make N pairs. :mod:`ctr.components.evaluator.scoring` makes
    them, :class:`ctr.components.scoring.pair_metrics.PairMetrics` computes the metrics.

    Args:
      judged_set: what the bounds are for that name no slice.
      evaluation: the bounds. Without ``compare_with_blessed`` those of the values decide alone, as they do on a first
        run, when there is no blessed model.
    """
    functions = {name: METRICS[name].path for name in METRICS}
    metric = tfma.MetricConfig(
        class_name=pair_metrics.PairMetrics.__name__,
        module=pair_metrics.__name__,
        config=json.dumps({"functions": functions}),
    )
    metrics = tfma.MetricsSpec(metrics=[metric])
    for bound in evaluation.bounds.each(judged_set):
        features = {} if bound.slice == OVERALL else {NEGATIVE_SET: bound.slice}
        threshold = _threshold(bound.bounds, METRICS[bound.metric], evaluation.compare_with_blessed)
        metrics.per_slice_thresholds[bound.metric].thresholds.append(
            tfma.PerSliceMetricThreshold(slicing_specs=[tfma.SlicingSpec(feature_values=features)], threshold=threshold)
        )
    return tfma.EvalConfig(
        model_specs=[tfma.ModelSpec(signature_name=DEFAULT_SIGNATURE, prediction_key=PROBABILITY, label_key=LABEL)],
        slicing_specs=[tfma.SlicingSpec(), tfma.SlicingSpec(feature_keys=[NEGATIVE_SET])],
        metrics_specs=[metrics],
    )


def _threshold(bounds: Bounds, metric: Metric, compare: bool) -> tfma.MetricThreshold:
    threshold = tfma.MetricThreshold()
    if bounds.min is not None:
        threshold.value_threshold.lower_bound.value = bounds.min
    if bounds.max is not None:
        threshold.value_threshold.upper_bound.value = bounds.max
    if bounds.max_drop is not None and compare:
        change = threshold.change_threshold
        if metric.better == "lower":
            change.direction, change.absolute.value = tfma.MetricDirection.LOWER_IS_BETTER, bounds.max_drop
        else:
            change.direction, change.absolute.value = tfma.MetricDirection.HIGHER_IS_BETTER, -bounds.max_drop
    return threshold
