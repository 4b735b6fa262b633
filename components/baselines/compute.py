"""The trivial baselines: what a model must beat to be worth its cost.

A public AUC of 0.95 may be nothing but coldness (was the item ever seen?); hence these scores on the very pairs that
the model is judged on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from ctr.components.baselines.columns import Columns, matched_features, one_shard
from ctr.components.baselines.reservoir import Reservoir
from ctr.components.baselines.unknown import UnknownCounter
from ctr.components.examples import blocks
from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.impressions import Impressions
from ctr.components.lookup import values_of
from ctr.components.scoring import baselines as results
from ctr.components.scoring.baselines import BaselineResults, SetResult
from ctr.components.scoring.by_set import pairs_by_set
from ctr.components.scoring.pairs import Pairs, auc, auc_new, finite
from ctr.components.scoring.scored_shards import ScoredShard
from ctr.models import impression as names
from ctr.models.arrays import Array, Int64Array
from ctr.models.errors import DataError
from ctr.models.layers.match import MATCH_FEATURE_NAMES, match_features


def compute(
    files: Mapping[str, Sequence[str]],
    catalogue: Catalogue,
    training_impressions: int,
    seed: int,
    columns: Columns,
    write: Callable[[str, ScoredShard], None],
) -> BaselineResults:
    """Scores every pair of the eval split with each baseline.

    Seen before is whether the item stands in the history; popularity, the item's count in the train split; coldness,
    whether that is above 0; category recency, how recently the candidate's category stands in the history; logistic
    regression takes all match features. In memory at once: a batch, the match features of the sample that the
    regression is fitted on, a shard of the eval split as columns, and 30 bytes for each eval pair.

    Args:
      files: split -> files of transformed impressions, for each of the three splits.
      catalogue: of the train split.
      training_impressions: size of the sample of train impressions that the regression is fitted on.
      seed: of that sample.
      columns: makes them of the eval split.
      write: takes each of its files with its columns and scores.

    Raises:
      DataError: if the train split has no impressions, or the sample has pairs of one class only.
    """
    unknown = UnknownCounter()
    sample = Reservoir(training_impressions, seed)
    seen = 0
    for batch in _batches(files[names.TRAIN_SPLIT], ()):
        unknown.add(names.TRAIN_SPLIT, batch)
        sample.add(np.arange(seen, seen := seen + batch.candidates.size))
    for batch in _batches(files[names.VALIDATION_SPLIT], ()):
        unknown.add(names.VALIDATION_SPLIT, batch)
    chosen = sample.sample().astype(np.int64)
    regression = _fit(files[names.TRAIN_SPLIT], chosen, seed)
    order = np.argsort(catalogue.item_ids)
    item_counts = catalogue.item_ids[order], catalogue.item_counts[order]

    sets: defaultdict[str, list[Pairs]] = defaultdict(list)
    for file in files[names.EVAL_SPLIT]:
        parts = []
        for batch in _batches([file], columns.needed, at_least_one=True):
            unknown.add(names.EVAL_SPLIT, batch)
            match = _match(batch)
            counts = values_of(*item_counts, batch.of_pairs(names.CANDIDATE_ITEM_ID))
            scores = _scores(match, counts, regression)
            parts.append(columns.of(batch, match, counts, dict(zip(results.BASELINES, scores.T, strict=True))))
            for name, pairs in pairs_by_set(batch, scores):
                sets[name].append(pairs)
        write(file, one_shard(parts))
    return BaselineResults(
        sets={name: _set_result(Pairs.joined(parts)) for name, parts in sorted(sets.items())},
        unknown=unknown.shares(),
        fitted_impressions=len(chosen),
        seed=seed,
    )


def _batches(files: Sequence[str], needed: Sequence[str], at_least_one: bool = False) -> Iterator[Impressions]:
    """Of an impression's candidates, and of it what is needed; at the end an empty one, where one is wanted anyway."""
    indices = (names.CANDIDATE_ITEM_INDEX, names.CANDIDATE_CATEGORY_INDEX)
    features = list(dict.fromkeys((*needed, names.CANDIDATE_ITEM_ID, *indices, names.LABEL, names.NEGATIVE_SET)))
    with blocks.damage_named(files):
        for batch in blocks.read(files, features):
            yield Impressions(batch, indices)
    if at_least_one:
        yield Impressions(blocks.none(features), indices)


def _match(batch: Impressions) -> Array:
    features: Array = match_features({name: batch.padded(name) for name in matched_features()}).numpy()
    return features[batch.real]


def _fit(files: Sequence[str], chosen: Int64Array, seed: int) -> Pipeline:
    """To the impressions of these places in the files, rising."""
    if not len(chosen):
        raise DataError("split train has no impressions, so no baseline can be fitted")
    found, seen = [], 0
    for batch in _batches(files, matched_features()):
        first, last = np.searchsorted(chosen, (seen, seen := seen + batch.candidates.size))
        if first < last:
            rows = chosen[first:last] - (seen - batch.candidates.size)
            of_rows = Impressions({name: tf.gather(each, rows) for name, each in batch.features.items()})
            found.append((_match(of_rows), of_rows.of_pairs(names.LABEL)))
    features, labels = map(np.concatenate, zip(*found, strict=True))
    if np.unique(labels).size < 2:
        raise DataError(f"split train: all {labels.size} labels are {labels[0]}, so no baseline can be fitted")
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, random_state=seed))
    return regression.fit(features, labels)


def _scores(match: Array, counts: Array, regression: Pipeline) -> Array:
    """[pairs, baselines] float32, in the order of :data:`results.BASELINES`."""
    scores = {
        results.SEEN_BEFORE: match[:, MATCH_FEATURE_NAMES.index("item_seen")],
        results.POPULARITY: counts,
        results.COLDNESS: counts > 0,
        results.CATEGORY_RECENCY: match[:, MATCH_FEATURE_NAMES.index("category_recency")],
        results.LOGISTIC_REGRESSION: regression.decision_function(match) if len(match) else counts,
    }
    return np.stack([scores[name] for name in results.BASELINES], axis=1, dtype=np.float32, casting="unsafe")


def _set_result(pairs: Pairs) -> SetResult:
    of_baseline = {name: pairs.scored(pairs.predictions[:, i]) for i, name in enumerate(results.BASELINES)}
    seen, positive = of_baseline[results.SEEN_BEFORE].predictions > 0, pairs.labels > 0
    return SetResult(
        impressions=pairs.impressions,
        pairs=pairs.labels.size,
        positives=int(positive.sum()),
        seen_positives=int((seen & positive).sum()),
        seen_negatives=int((seen & ~positive).sum()),
        pairs_new=int(pairs.new.sum()),
        auc={name: finite(auc(scored)) for name, scored in of_baseline.items()},
        auc_new={name: finite(auc_new(scored)) for name, scored in of_baseline.items()},
    )
