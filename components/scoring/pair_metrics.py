"""AUC, GAUC, log loss and calibration as one TFMA metric over pairs, exact.

TFMA's own AUC is approximate, and 0 instead of undefined where a slice has one class. For GAUC (AUC per user, weighted
by the user's number of pairs) its ``query_key`` is of no use either: it gathers a user's impressions of all negative
sets and then counts the whole group in every slice that one of them belongs to. Log loss and calibration come from
the same pairs because TFMA spends twice the time of all this on its own two.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types, metric_util

from components.scoring.auc import auc, grouped_auc
from models.impression import USER_ID

AUC: Final = "auc"
AUC_NEW: Final = "auc_new"
GAUC: Final = "gauc"
USERS: Final = "gauc_users"
USERS_SKIPPED: Final = "gauc_users_skipped"
LOG_LOSS: Final = "log_loss"
CALIBRATION: Final = "calibration"
PAIRS: Final = "pairs"
PAIRS_NEW: Final = "pairs_new"
IMPRESSIONS: Final = "example_count"
"""Of metrics, and of the feature that holds how many impressions an Extract is of."""

POSITIVE_IS_NEW: Final = "positive_is_new"
"""Feature of an Extract, beside those of an impression: see :mod:`components.scoring.seen`."""

_CLIP: Final = 1e-7


class PairMetrics(tfma.metrics.Metric):
    """Metrics over the pairs of candidate and label in the impressions of a slice.

    ``auc``; ``auc_new``, on the impressions whose positive is new to the user; ``gauc`` with the users in it and those
    skipped because they have pairs of one class only; ``log_loss``, the mean over pairs in nats with probabilities
    clipped to 1e-7; ``calibration``, the sum of probabilities over the sum of labels; ``pairs`` and ``pairs_new``;
    ``example_count``, the impressions. What is undefined is NaN, and a bound on NaN fails.

    An Extract holds one value a pair in its labels, its predictions and its features ``user_id`` and
    ``positive_is_new``.

    Memory: 14 bytes a pair and slice, in one worker, and four times that while they are sorted.

    Args:
      name: name of the AUC, the one that a threshold may name.
    """

    def __init__(self, name: str = AUC) -> None:
        super().__init__(_computations, name=name)


def _computations(
    name: str,
    eval_config: tfma.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> list[metric_types.MetricComputation]:
    computations = []
    for model_name in model_names or [""]:
        names = (name, AUC_NEW, GAUC, USERS, USERS_SKIPPED, LOG_LOSS, CALIBRATION, PAIRS, PAIRS_NEW, IMPRESSIONS)
        keys = [metric_types.MetricKey(n, model_name=model_name) for n in names]
        preprocessor = metric_types.FeaturePreprocessor(feature_keys=[USER_ID, POSITIVE_IS_NEW, IMPRESSIONS])
        combiner = _Combine(keys, eval_config, model_name)
        computations.append(metric_types.MetricComputation(keys, [preprocessor], combiner))
    return computations


class _Pairs:
    """Pairs of any number of users, as columns that are still in pieces."""

    def __init__(self) -> None:
        self.impressions = 0
        self.users: list[np.ndarray] = [np.empty(0, np.int64)]
        self.new: list[np.ndarray] = [np.empty(0, np.bool_)]
        self.labels: list[np.ndarray] = [np.empty(0, np.int8)]
        self.scores: list[np.ndarray] = [np.empty(0, np.float32)]

    def columns(self) -> tuple[list[np.ndarray], ...]:
        return self.users, self.new, self.labels, self.scores


class _Combine(beam.CombineFn):
    def __init__(
        self, keys: list[metric_types.MetricKey], eval_config: tfma.EvalConfig | None, model_name: str
    ) -> None:
        self._keys = keys
        self._eval_config = eval_config
        self._model_name = model_name

    def create_accumulator(self) -> _Pairs:
        return _Pairs()

    def add_input(self, pairs: _Pairs, element: metric_types.StandardMetricInputs) -> _Pairs:
        labels, scores, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._model_name, flatten=False
            )
        )
        users, new = element.features[USER_ID], element.features[POSITIVE_IS_NEW]
        if not users.shape == new.shape == labels.shape == scores.shape:
            raise ValueError(
                f"an Extract needs a value a pair: labels {labels.shape}, predictions {scores.shape}, "
                f"{USER_ID} {users.shape}, {POSITIVE_IS_NEW} {new.shape}"
            )
        for column, values in zip(pairs.columns(), (users, new, labels, scores), strict=True):
            column.append(values.astype(column[0].dtype))
        pairs.impressions += int(element.features[IMPRESSIONS].item())
        return pairs

    def merge_accumulators(self, accumulators: Iterable[_Pairs]) -> _Pairs:
        merged = _Pairs()
        for pairs in accumulators:
            merged.impressions += pairs.impressions
            for column, values in zip(merged.columns(), pairs.columns(), strict=True):
                column += values
        return merged

    def extract_output(self, pairs: _Pairs) -> dict[metric_types.MetricKey, Any]:
        users, new, labels, scores = (np.concatenate(column) for column in pairs.columns())
        by_user = grouped_auc(users, labels, scores)
        probability = np.clip(np.where(labels > 0, scores, 1 - scores), _CLIP, None)
        positives = int(labels.sum(dtype=np.int64))
        values = (
            auc(labels, scores),
            auc(labels[new], scores[new]),
            by_user.value,
            by_user.groups,
            by_user.skipped,
            float(-np.log(probability, dtype=np.float64).mean()) if labels.size else math.nan,
            float(scores.sum(dtype=np.float64)) / positives if positives else math.nan,
            labels.size,
            int(new.sum()),
            pairs.impressions,
        )
        return dict(zip(self._keys, values, strict=True))
