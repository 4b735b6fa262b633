"""The metrics of :mod:`ctr.components.scoring.metrics` as one TFMA metric over pairs, exact.

TFMA's own AUC is approximate, and 0 instead of undefined where a slice has one class. For GAUC (AUC per user, weighted
by the user's number of pairs) its ``query_key`` is of no use either: it gathers a user's impressions of all negative
sets and then counts the whole group in every slice that one of them belongs to. Log loss and calibration come from
the same pairs because TFMA spends twice the time of all this on its own two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import apache_beam as beam
import numpy as np
import tensorflow_model_analysis as tfma
from tensorflow_model_analysis.metrics import metric_types, metric_util
from tensorflow_model_analysis.proto import config_pb2

from ctr.components.scoring.pairs import Pairs
from ctr.models.impression import USER_ID
from ctr.models.registration import Declaration

POSITIVE_IS_NEW: Final = "positive_is_new"
"""Feature of an Extract, beside those of an impression: see :mod:`ctr.components.scoring.seen`."""
CANDIDATES: Final = "candidates"
"""Feature of an Extract: how many pairs each of its impressions has."""


class PairMetrics(tfma.metrics.Metric):
    """Metrics over the pairs of candidate and label in the impressions of a slice. A bound on NaN fails.

    An Extract holds one value a pair in its labels, its predictions and its features ``user_id`` and
    ``positive_is_new``.

    Memory: 14 bytes a pair and slice, in one worker, and four times that while they are sorted.

    Args:
      functions: name -> dotted name of what computes it, which is imported where it is computed.
      name: TFMA's, of all together.
    """

    def __init__(self, functions: Mapping[str, str], name: str = "pair_metrics") -> None:
        super().__init__(_computations, functions=functions, name=name)


def _computations(
    functions: Mapping[str, str],
    name: str = "",
    eval_config: config_pb2.EvalConfig | None = None,
    model_names: list[str] | None = None,
) -> list[metric_types.MetricComputation]:
    computations = []
    for model_name in model_names or [""]:
        # Weighted None is how TFMA names the metric of a bound.
        targets = {
            metric_types.MetricKey(n, model_name=model_name, example_weighted=None): path
            for n, path in functions.items()
        }
        preprocessor = metric_types.FeaturePreprocessor(feature_keys=[USER_ID, POSITIVE_IS_NEW, CANDIDATES])
        combiner = _Combine(targets, eval_config, model_name)
        computations.append(metric_types.MetricComputation(list(targets), [preprocessor], combiner))
    return computations


_NO_PAIRS: Final = Pairs(
    np.empty(0, np.int8), np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.bool_), np.empty(0, np.int64)
)


class _Combine(beam.CombineFn):
    def __init__(
        self, targets: Mapping[metric_types.MetricKey, str], eval_config: config_pb2.EvalConfig | None, model_name: str
    ) -> None:
        self._targets = targets
        self._eval_config = eval_config
        self._model_name = model_name

    def create_accumulator(self) -> list[Pairs]:
        return [_NO_PAIRS]

    def add_input(self, parts: list[Pairs], element: metric_types.StandardMetricInputs) -> list[Pairs]:
        labels, scores, _ = next(
            metric_util.to_label_prediction_example_weight(
                element, eval_config=self._eval_config, model_name=self._model_name, flatten=False
            )
        )
        features = element.features
        parts.append(
            Pairs(
                labels.astype(np.int8),
                scores.astype(np.float32),
                features[USER_ID],
                features[POSITIVE_IS_NEW],
                features[CANDIDATES],
            )
        )
        return parts

    def merge_accumulators(self, accumulators: Iterable[list[Pairs]]) -> list[Pairs]:
        return [part for parts in accumulators for part in parts]

    def extract_output(self, parts: list[Pairs]) -> dict[metric_types.MetricKey, Any]:
        pairs = Pairs.joined(parts)
        declared = {key: Declaration(key.name, ":".join(path.rsplit(".", 1))) for key, path in self._targets.items()}
        return {key: metric.load()(pairs) for key, metric in declared.items()}
