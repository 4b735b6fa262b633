"""The trivial baselines: what a model must beat to be worth its cost.

A public AUC of 0.95 may be nothing but coldness (was the item ever seen?); hence these scores on the very pairs that
the model is judged on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from components.baselines import results
from components.baselines.reservoir import Reservoir
from components.baselines.results import BaselineResults, SetResult
from components.baselines.unknown import UnknownCounter
from components.examples.impressions import BATCH_SIZE, Batch, parse, read
from components.scoring.auc import auc
from components.scoring.seen import positive_is_new
from models.impression import (
    CANDIDATE_ITEM_ID,
    EVAL_SPLIT,
    HISTORY_ITEM_ID,
    LABEL,
    TRAIN_SPLIT,
    VALIDATION_SPLIT,
)
from models.layers.match import MATCH_FEATURE_NAMES, match_features


@dataclass
class _EvalSet:
    impressions: int = 0
    labels: list[np.ndarray] = field(default_factory=list)
    new: list[np.ndarray] = field(default_factory=list)
    seen_positives: int = 0
    seen_negatives: int = 0
    scores: defaultdict[str, list[np.ndarray]] = field(default_factory=lambda: defaultdict(list))


class ItemCounts:
    """How often each item occurs in the train split.

    Args:
      item_ids: [items] int64, any order.
      item_counts: [items] int64.
    """

    def __init__(self, item_ids: np.ndarray, item_counts: np.ndarray) -> None:
        order = np.argsort(item_ids)
        self._ids, self._counts = item_ids[order], item_counts[order]

    def of(self, items: np.ndarray) -> np.ndarray:
        """[n] int64 ids -> [n] int64 counts, 0 for an item that does not occur."""
        if not self._ids.size:
            return np.zeros(items.shape, np.int64)
        position = np.minimum(np.searchsorted(self._ids, items), self._ids.size - 1)
        return np.where(self._ids[position] == items, self._counts[position], 0)


def compute(
    files: Mapping[str, Sequence[str]], item_counts: ItemCounts, training_impressions: int, seed: int
) -> BaselineResults:
    """Scores every pair of the eval split with each baseline.

    Seen before is whether the item stands in the history; popularity, the item's count in the train split; coldness,
    whether that is above 0; category recency, how recently the candidate's category stands in the history; logistic
    regression takes all match features. In memory at once: a batch, the sample that the regression is fitted on, and
    25 bytes for each eval pair.

    Args:
      files: split -> gzipped TFRecord files of transformed impressions, for each of the three splits.
      item_counts: of the train split.
      training_impressions: size of the sample of train impressions that the regression is fitted on.
      seed: of that sample.

    Raises:
      ValueError: if the train split has no impressions, or the sample has pairs of one class only.
    """
    unknown = UnknownCounter()
    sample = Reservoir(training_impressions, seed)
    for serialized in read(files[TRAIN_SPLIT]):
        unknown.add(TRAIN_SPLIT, parse(serialized))
        sample.add(serialized)
    for serialized in read(files[VALIDATION_SPLIT]):
        unknown.add(VALIDATION_SPLIT, parse(serialized))
    impressions = sample.sample()
    regression, fitted_pairs = _fit(impressions, seed)

    sets: defaultdict[str, _EvalSet] = defaultdict(_EvalSet)
    for serialized in read(files[EVAL_SPLIT]):
        batch = parse(serialized)
        unknown.add(EVAL_SPLIT, batch)
        scores = _scores(batch, item_counts, regression)
        labels = batch.pairs(LABEL).astype(np.int8)
        candidates = batch.real.sum(axis=1)
        of_pair = np.repeat(batch.negative_set, candidates)
        histories, items, padded = (batch.features[n] for n in (HISTORY_ITEM_ID, CANDIDATE_ITEM_ID, LABEL))
        new = np.repeat(positive_is_new(histories, items, padded).numpy(), candidates)
        seen = scores[results.SEEN_BEFORE] > 0
        for name in sorted(set(batch.negative_set.tolist())):
            rows, eval_set = of_pair == name, sets[name.decode()]
            eval_set.impressions += int((batch.negative_set == name).sum())
            eval_set.labels.append(labels[rows])
            eval_set.new.append(new[rows])
            eval_set.seen_positives += int((seen & (labels > 0))[rows].sum())
            eval_set.seen_negatives += int((seen & (labels == 0))[rows].sum())
            for baseline, score in scores.items():
                eval_set.scores[baseline].append(score[rows])
    return BaselineResults(
        sets={name: _set_result(eval_set) for name, eval_set in sorted(sets.items())},
        unknown=unknown.shares(),
        fitted_impressions=len(impressions),
        fitted_pairs=fitted_pairs,
        coefficients=dict(zip(MATCH_FEATURE_NAMES, regression[-1].coef_[0].tolist(), strict=True)),
        seed=seed,
    )


def _match(batch: Batch) -> np.ndarray:
    return match_features(batch.features).numpy()[batch.real]


def _fit(impressions: np.ndarray, seed: int) -> tuple[Pipeline, int]:
    if not len(impressions):
        raise ValueError("split train has no impressions, so no baseline can be fitted")
    batches = [parse(impressions[i : i + BATCH_SIZE]) for i in range(0, len(impressions), BATCH_SIZE)]
    features = np.concatenate([_match(batch) for batch in batches])
    labels = np.concatenate([batch.pairs(LABEL) for batch in batches])
    if np.unique(labels).size < 2:
        raise ValueError(f"split train: all {labels.size} labels are {labels[0]}, so no baseline can be fitted")
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    return regression.fit(features, labels), labels.size


def _scores(batch: Batch, item_counts: ItemCounts, regression: Pipeline) -> dict[str, np.ndarray]:
    features = _match(batch)
    counts = item_counts.of(batch.pairs(CANDIDATE_ITEM_ID))
    return {
        results.SEEN_BEFORE: features[:, MATCH_FEATURE_NAMES.index("item_seen")],
        results.POPULARITY: counts.astype(np.float32),
        results.COLDNESS: (counts > 0).astype(np.float32),
        results.CATEGORY_RECENCY: features[:, MATCH_FEATURE_NAMES.index("category_recency")],
        results.LOGISTIC_REGRESSION: regression.decision_function(features).astype(np.float32),
    }


def _set_result(eval_set: _EvalSet) -> SetResult:
    labels, new = np.concatenate(eval_set.labels), np.concatenate(eval_set.new)
    scores = {name: np.concatenate(score) for name, score in eval_set.scores.items()}
    return SetResult(
        impressions=eval_set.impressions,
        pairs=labels.size,
        positives=int(labels.sum()),
        seen_positives=eval_set.seen_positives,
        seen_negatives=eval_set.seen_negatives,
        pairs_new=int(new.sum()),
        auc=_aucs(labels, scores),
        auc_new=_aucs(labels[new], {name: score[new] for name, score in scores.items()}),
    )


def _aucs(labels: np.ndarray, scores: Mapping[str, np.ndarray]) -> dict[str, float | None]:
    values = {name: auc(labels, score) for name, score in scores.items()}
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
