"""Reads the Evaluator's output: TFMA's metrics and validation result, TFX's blessing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import tensorflow as tf
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.proto import config_pb2

from ctr.components.scoring.metrics import OVERALL
from ctr.components.scoring.pairs import finite
from ctr.components.scoring.verdict import Failure, Kind, Verdict


def read_verdict(evaluation_uri: str, blessing_uri: str) -> Verdict:
    """The verdict with every missed bound, of the Evaluator's ``evaluation`` and ``blessing`` artifacts.

    Raises:
      FileNotFoundError: if the blessing artifact says neither BLESSED nor NOT_BLESSED.
      ValueError: if the blessing contradicts the validation result, or a refusal has no reason.
    """
    blessed = tf.io.gfile.exists(f"{blessing_uri}/BLESSED")
    if not blessed and not tf.io.gfile.exists(f"{blessing_uri}/NOT_BLESSED"):
        raise FileNotFoundError(f"{blessing_uri}: holds neither BLESSED nor NOT_BLESSED; did the Evaluator run?")
    validation = tfma.load_validation_result(evaluation_uri)
    failures = tuple(_failures(validation))
    if blessed != validation.validation_ok or blessed == bool(failures):
        raise ValueError(
            f"{blessing_uri} says {'BLESSED' if blessed else 'NOT_BLESSED'}, but {evaluation_uri} has "
            f"validation_ok={validation.validation_ok} and {len(failures)} failures: are they of the same run?"
        )
    metrics = list(tfma.load_metrics(evaluation_uri))
    return Verdict(
        blessed=blessed,
        failures=failures,
        metrics=_by_slice(metrics, ("", tfma.CANDIDATE_KEY)),
        blessed_metrics=_by_slice(metrics, (tfma.BASELINE_KEY,)),
    )


def _failures(validation: Any) -> Iterable[Failure]:
    for spec in validation.missing_slices:
        name = ",".join(f"{k}={v}" for k, v in sorted(spec.feature_values.items())) or OVERALL
        yield Failure(metric="", slice=name, kind="missing_slice", bound=None, value=None, short_by=None)
    for sliced in validation.metric_validations_per_slice:
        for failure in sliced.failures:
            threshold = failure.metric_threshold
            drop = failure.metric_key.is_diff
            value, bounds = _number(failure.metric_value), threshold.value_threshold
            kind: Kind = "lower_bound"
            bound, sign = bounds.lower_bound.value, 1
            if drop:
                change = threshold.change_threshold
                kind, bound = "max_drop", change.absolute.value
                sign = -1 if change.direction == config_pb2.MetricDirection.LOWER_IS_BETTER else 1
            elif value is not None and bounds.HasField("upper_bound") and value > bounds.upper_bound.value:
                kind, bound, sign = "upper_bound", bounds.upper_bound.value, -1
            yield Failure(
                metric=failure.metric_key.name,
                slice=_slice_name(sliced.slice_key),
                kind=kind,
                bound=bound,
                value=value,
                short_by=None if value is None else sign * (bound - value),
            )


def _by_slice(metrics: Iterable[Any], models: tuple[str, ...]) -> dict[str, dict[str, float | None]]:
    result: dict[str, dict[str, float | None]] = {}
    for sliced in metrics:
        values = {
            entry.key.name: _number(entry.value)
            for entry in sliced.metric_keys_and_values
            if entry.key.model_name in models and not entry.key.is_diff
        }
        if values:
            result[_slice_name(sliced.slice_key)] = values
    return result


def _slice_name(slice_key: Any) -> str:
    names = [f"{k.column}={_slice_value(k)}" for k in slice_key.single_slice_keys]
    return ",".join(names) or OVERALL


def _slice_value(key: Any) -> Any:
    value = getattr(key, key.WhichOneof("kind"))
    return value.decode() if isinstance(value, bytes) else value


def _number(metric: Any) -> float | None:
    value = metric.double_value.value if metric.HasField("double_value") else math.nan
    return finite(value)
