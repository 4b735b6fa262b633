"""AUC, GAUC, log loss and calibration as one TFMA metric over pairs, exact.

TFMA's own AUC is approximate, and 0 instead of undefined where a slice has one class. For GAUC (AUC per user, weighted
by the user's number of pairs) its ``query_key`` is of no use either: it gathers a user's impressions of all negative
sets and then counts the whole group in every slice that one of them belongs to. Log loss and calibration come from
the same pairs because TFMA spends twice the time of all this on its own two.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.utils import util

from components.evaluator.auc import auc, grouped_auc

AUC: Final = "auc"
GAUC: Final = "gauc"
USERS: Final = "gauc_users"
USERS_SKIPPED: Final = "gauc_users_skipped"
LOG_LOSS: Final = "log_loss"
CALIBRATION: Final = "calibration"
PAIRS: Final = "pairs"

_CLIP: Final = 1e-7


class PairMetrics(tfma.metrics.Metric):
    """Metrics over the pairs of candidate and label in the impressions of a slice.

    ``auc``; ``gauc`` with the users in it and those skipped because they have pairs of one class only; ``log_loss``,
    the mean over pairs in nats with probabilities clipped to 1e-7; ``calibration``, the sum of probabilities over the
    sum of labels; ``pairs``. What is undefined is NaN, and a bound on NaN fails.

    Memory: 13 bytes a pair and slice, in one worker, and four times that while they are sorted.

    Args:
      user_key: feature [1] int64 that names the user.
      name: name of the AUC, the one that a threshold may name.
    """

    def __init__(self, user_key: str, name: str = AUC) -> None:
        super().__init__(_computations, user_key=user_key, name=name)


def _computations(
    user_key: str,
    name: str,
    eval_config: tfma.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> list[metric_types.MetricComputation]:
    computations = []
    for model_name in model_names or [""]:
        names = (name, GAUC, USERS, USERS_SKIPPED, LOG_LOSS, CALIBRATION, PAIRS)
        keys = [metric_types.MetricKey(n, model_name=model_name) for n in names]
        preprocessor = metric_types.FeaturePreprocessor(feature_keys=[user_key])
        combiner = _PairsPerUser(keys, user_key, eval_config, model_name)
        computations.append(metric_types.MetricComputation(keys, [preprocessor], combiner))
    return computations


class _Pairs:
    """Pairs of any number of users, as three columns."""

    def __init__(self) -> None:
        self.users = array("q")
        self.labels = array("b")
        self.scores = array("f")


class _PairsPerUser(beam.CombineFn):
    def __init__(
        self,
        keys: list[metric_types.MetricKey],
        user_key: str,
        eval_config: tfma.EvalConfig | None,
        model_name: str,
    ) -> None:
        self._keys = keys
        self._user_key = user_key
        self._eval_config = eval_config
        self._model_name = model_name

    def create_accumulator(self) -> _Pairs:
        return _Pairs()

    def add_input(self, pairs: _Pairs, element: metric_types.StandardMetricInputs) -> _Pairs:
        user = np.asarray(util.get_by_keys(element.features, [self._user_key])).ravel()
        if user.size != 1:
            raise ValueError(f"{self._user_key}: an impression has {user.size} values, needed is exactly one")
        labels, scores, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._model_name, flatten=False
            )
        )
        if labels.size != scores.size:
            raise ValueError(f"user {user[0]}: {labels.size} labels but {scores.size} predictions in an impression")
        pairs.users.extend([int(user[0])] * labels.size)
        pairs.labels.extend(labels.ravel().astype(np.int8).tolist())
        pairs.scores.extend(scores.ravel().tolist())
        return pairs

    def merge_accumulators(self, accumulators: Iterable[_Pairs]) -> _Pairs:
        merged = _Pairs()
        for pairs in accumulators:
            merged.users.extend(pairs.users)
            merged.labels.extend(pairs.labels)
            merged.scores.extend(pairs.scores)
        return merged

    def extract_output(self, pairs: _Pairs) -> dict[metric_types.MetricKey, Any]:
        users = np.frombuffer(pairs.users, np.int64)
        labels = np.frombuffer(pairs.labels, np.int8)
        scores = np.frombuffer(pairs.scores, np.float32)
        by_user = grouped_auc(users, labels, scores)
        probability = np.clip(np.where(labels > 0, scores, 1 - scores), _CLIP, None)
        positives = int(labels.sum(dtype=np.int64))
        values = (
            auc(labels, scores),
            by_user.value,
            by_user.groups,
            by_user.skipped,
            float(-np.log(probability, dtype=np.float64).mean()),
            float(scores.sum(dtype=np.float64)) / positives if positives else math.nan,
            labels.size,
        )
        return dict(zip(self._keys, values, strict=True))
