"""An evaluation as the files of TensorFlow Model Analysis, for its views and for those that read its results.

Nothing of TFMA computes here. Slices are named as TFMA names them, by the feature ``negative_set`` and the attribute;
there are two models, ``candidate`` and ``baseline`` (the latest blessed model), or one without a name. Curves become
its plots: the points of the ROC as confusion matrices, the reliability bins as calibration buckets.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

import numpy as np
import tensorflow as tf

from ctr.components.scoring.evaluation import (
    BLESSED,
    MODEL,
    BoundResult,
    Evaluation,
    ReliabilityBin,
    Roc,
    SliceResult,
    Value,
)
from ctr.components.scoring.metrics import METRICS, OVERALL
from ctr.components.scoring.scored import Scored
from ctr.models.arrays import Array
from ctr.models.impression import EVALUATION_SETS, LABEL, NEGATIVE_SET
from ctr.serving.signatures import DEFAULT_SIGNATURE, PROBABILITY

_COMPARED: Final = {MODEL: "candidate", BLESSED: "baseline"}
_EXAMPLE_COUNT: Final = "example_count"
"""Which TFMA's views take as the size of a slice."""


def write(evaluation: Evaluation, scored: Scored, folders: Mapping[str, str], data: str, uri: str) -> None:
    """Writes what ``tfma.load_eval_result``, ``load_metrics``, ``load_plots`` and ``load_validation_result`` read.

    Args:
      evaluation: what is written.
      scored: the impressions that it is of.
      folders: scorer -> folder of a model, of the models that were scored.
      data: where the impressions lie.
      uri: of the evaluation artifact.
    """
    # For its protos alone, but importing those imports all of it.
    from tensorflow_model_analysis.proto import metrics_for_slice_pb2 as protos

    names = _COMPARED if BLESSED in folders else {MODEL: ""}
    locations = {names[scorer]: folder for scorer, folder in folders.items()}
    metrics = [
        protos.MetricsForSlice(
            slice_key=_slice_key(each.negative_set, each.slice), metric_keys_and_values=_metrics(each, names)
        )
        for each in evaluation.slices
    ]
    plots = [
        protos.PlotsForSlice(
            slice_key=_slice_key(negative_set),
            plot_keys_and_values=[
                {"key": {"model_name": name}, "value": _plots(evaluation, scored, negative_set, scorer)}
                for scorer, name in names.items()
                if scorer in evaluation.curves[negative_set].roc
            ],
        )
        for negative_set in evaluation.curves
    ]
    _write_records(os.path.join(uri, "metrics-00000-of-00001.tfrecord"), metrics)
    _write_records(os.path.join(uri, "plots-00000-of-00001.tfrecord"), plots)
    _write_records(os.path.join(uri, "validations.tfrecord"), [_validation(evaluation, names)])
    with tf.io.gfile.GFile(os.path.join(uri, "eval_config.json"), "w") as file:
        file.write(_eval_run(evaluation, names, locations, data))


def _write_records(path: str, messages: Iterable[Any]) -> None:
    with tf.io.TFRecordWriter(path) as writer:
        for message in messages:
            writer.write(message.SerializeToString())


# --- metrics ------------------------------------------------------------------------------------------------------


def _slice_key(negative_set: str, name: str = "") -> dict[str, Any]:
    return {
        "single_slice_keys": [
            {"column": column, "bytes_value": value.encode()} for column, value in _columns(negative_set, name).items()
        ]
    }


def _columns(negative_set: str, name: str) -> dict[str, str]:
    """Feature -> value of a slice, as TFMA names it; none of all impressions."""
    attribute, _, value = name.partition(":")
    columns = {} if negative_set == OVERALL else {NEGATIVE_SET: negative_set}
    return {**columns, **({attribute: value} if name else {})}


def _metrics(result: SliceResult, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    counts = {_EXAMPLE_COUNT: result.impressions, "users": result.users, "pairs": result.pairs}
    for scorer, name in names.items():
        values = {count: Value(value=float(number)) for count, number in counts.items()}
        values |= result.metrics.get(scorer, {})
        for metric, value in sorted(values.items()):
            yield {"key": {"name": metric, "model_name": name}, **_value(value)}
    for metric, value in sorted(result.differences.get(BLESSED, {}).items()):
        if BLESSED in names:
            yield {"key": {"name": metric, "model_name": names[MODEL], "is_diff": True}, **_value(value)}


def _value(value: Value) -> dict[str, Any]:
    # As TFMA's own metrics have it where they are undefined.
    found = {"value": _number(math.nan if value.value is None else value.value)}
    if value.low is None or value.high is None:
        return found
    interval = {"lower_bound": _number(value.low), "upper_bound": _number(value.high)}
    return {**found, "confidence_interval": interval}


def _number(value: float) -> dict[str, Any]:
    return {"double_value": {"value": value}}


# --- plots --------------------------------------------------------------------------------------------------------


def _plots(evaluation: Evaluation, scored: Scored, negative_set: str, scorer: str) -> dict[str, Any]:
    curves = evaluation.curves[negative_set]
    of_set = np.full(scored.negative_set.shape, True)
    if negative_set != OVERALL:
        of_set = scored.negative_set == EVALUATION_SETS.index(negative_set)
    pairs = np.repeat(of_set, scored.candidates)
    scores, labels = scored.scores[scorer][pairs], scored.labels[pairs]
    return {
        "confusion_matrix_at_thresholds": {"matrices": list(_matrices(curves.roc[scorer], scores, labels))},
        "calibration_histogram_buckets": {"buckets": list(_buckets(curves.reliability.get(scorer, ())))},
    }


def _matrices(roc: Roc, scores: Array, labels: Array) -> Iterator[dict[str, float]]:
    """A confusion matrix for each point, by rising threshold: positive is what scores above it."""
    falling = np.sort(scores)[::-1]
    positives = int((labels > 0).sum())
    negatives = labels.size - positives
    for false_rate, true_rate in sorted(
        zip(roc.false_positive_rate, roc.true_positive_rate, strict=True), reverse=True
    ):
        true, false = round(true_rate * positives), round(false_rate * negatives)
        above = true + false
        yield {
            "threshold": float(falling[above]) if above < falling.size else -math.inf,
            "true_positives": true,
            "false_positives": false,
            "false_negatives": positives - true,
            "true_negatives": negatives - false,
            "precision": true / above if above else 1.0,
            "recall": true_rate,
            "false_positive_rate": false_rate,
        }


def _buckets(bins: tuple[ReliabilityBin, ...]) -> Iterator[dict[str, Any]]:
    """Between two bins' mean predictions lies the border of their buckets."""
    means = [each.predicted for each in bins]
    borders = [0.0, *((low + high) / 2 for low, high in itertools.pairwise(means)), 1.0]
    for each, (low, high) in zip(bins, itertools.pairwise(borders), strict=False):
        yield {
            "lower_threshold_inclusive": low,
            "upper_threshold_exclusive": high,
            "num_weighted_examples": {"value": each.pairs},
            "total_weighted_label": {"value": each.observed * each.pairs},
            "total_weighted_refined_prediction": {"value": each.predicted * each.pairs},
        }


# --- the verdict --------------------------------------------------------------------------------------------------


def _validation(evaluation: Evaluation, names: Mapping[str, str]) -> Any:
    from tensorflow_model_analysis.proto import validation_result_pb2

    verdict = evaluation.verdict
    failures: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for bound in verdict.missed:
        failure: dict[str, Any] = {
            "metric_key": {
                "name": bound.metric,
                "model_name": names[MODEL],
                "is_diff": bound.kind in ("max_drop", "min_margin"),
            },
            "metric_threshold": _threshold(bound),
            "message": bound.words,
        }
        if bound.measured is not None:
            failure["metric_value"] = _value(bound.measured)["value"]
        failures.setdefault((bound.negative_set, bound.slice), []).append(failure)
    return validation_result_pb2.ValidationResult(
        validation_ok=verdict.blessed,
        metric_validations_per_slice=[
            {"slice_key": _slice_key(*where), "failures": found} for where, found in failures.items()
        ],
        validation_details={
            "slicing_details": [
                {"slicing_spec": {"feature_values": _columns(*where)}, "num_matching_slices": 1}
                for where in dict.fromkeys((bound.negative_set, bound.slice) for bound in verdict.bounds)
            ]
        },
        rubber_stamp=verdict.comparison == "first",
    )


def _threshold(bound: BoundResult) -> dict[str, Any]:
    number = {"value": bound.bound}
    if bound.kind in ("min", "max"):
        return {"value_threshold": {"lower_bound" if bound.kind == "min" else "upper_bound": number}}
    lower = METRICS[bound.metric].better == "lower"
    # What is taken of the difference, in TFMA's sign: at least so much more, or at most so much less.
    least = bound.bound if bound.kind == "min_margin" else -bound.bound
    return {
        "change_threshold": {
            "direction": "LOWER_IS_BETTER" if lower else "HIGHER_IS_BETTER",
            "absolute": {"value": -least if lower else least},
        }
    }


# --- the configuration --------------------------------------------------------------------------------------------


def _eval_run(evaluation: Evaluation, names: Mapping[str, str], locations: Mapping[str, str], data: str) -> str:
    from google.protobuf import json_format
    from tensorflow_model_analysis.proto import config_pb2
    from tensorflow_model_analysis.version import VERSION

    thresholds: dict[str, list[dict[str, Any]]] = {}
    for bound in evaluation.verdict.bounds:
        # A margin above a trivial baseline is of no model that TFMA knows.
        if bound.kind != "min_margin":
            spec = {"feature_values": _columns(bound.negative_set, bound.slice)}
            thresholds.setdefault(bound.metric, []).append({"slicing_specs": [spec], "threshold": _threshold(bound)})
    keys = dict.fromkeys(tuple(_columns(each.negative_set, each.slice)) for each in evaluation.slices)
    metrics = dict.fromkeys(metric for each in evaluation.slices for metric in each.metrics.get(MODEL, {}))
    config = config_pb2.EvalConfig(
        model_specs=[
            {
                "name": name,
                "signature_name": DEFAULT_SIGNATURE,
                "prediction_key": PROBABILITY,
                "label_key": LABEL,
                "is_baseline": scorer == BLESSED,
            }
            for scorer, name in names.items()
        ],
        slicing_specs=[{"feature_keys": columns} for columns in keys],
        metrics_specs=[{"metrics": [{"class_name": metric} for metric in metrics]}],
    )
    for metric, of_slices in thresholds.items():
        config.metrics_specs[0].per_slice_thresholds[metric].CopyFrom(
            config_pb2.PerSliceMetricThresholds(thresholds=of_slices)
        )
    run = config_pb2.EvalRun(
        eval_config=config,
        version=VERSION,
        data_location=data,
        file_format="tfrecords_gzip",
        model_locations=dict(locations),
    )
    text: str = json_format.MessageToJson(run)
    return text
