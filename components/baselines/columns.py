"""Impressions of the eval split as columns, with what they are sliced by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from zoneinfo import ZoneInfo

import numpy as np

from ctr.components.examples.catalogue import Catalogue
from ctr.components.examples.impressions import Impressions
from ctr.components.scoring.scored import Scored
from ctr.components.scoring.scored_shards import ScoredShard, joined
from ctr.components.scoring.slices import attributes, popularity_bounds
from ctr.models import impression as names
from ctr.models.arrays import Array, Int64Array
from ctr.models.layers.match import MATCH_FEATURE_NAMES


def matched_features() -> list[str]:
    """What the baselines look at: what every request carries, without what a description declares."""
    return [name for name in names.REQUEST_FEATURES if not names.FEATURES[name].declared]


class Columns:
    """Makes columns of parsed impressions.

    Args:
      catalogue: of the train split.
      validation_start: Unix second; train is before it.
      features: that impressions are sliced by beside the attributes that all have.
      zone: of the log.
    """

    def __init__(
        self, catalogue: Catalogue, validation_start: int, features: Sequence[str] = (), *, zone: ZoneInfo
    ) -> None:
        self._popularity = popularity_bounds(catalogue.item_counts)
        self._validation_start = validation_start
        self._features = features
        self._zone = zone

    @property
    def needed(self) -> tuple[str, ...]:
        """Features that the impressions must have been parsed with."""
        needed = (*matched_features(), names.TIMESTAMP, names.TARGET_BEHAVIOR, names.USER_ID, *self._features)
        return tuple(dict.fromkeys(needed))

    def of(self, batch: Impressions, match: Array, counts: Array, scores: Mapping[str, Array]) -> ScoredShard:
        """Of B impressions.

        Args:
          batch: parsed with :attr:`needed`, labels and negative sets.
          match: [pairs, F], of ``models.layers.match``.
          counts: [pairs] int64, how often each candidate's item occurs in train.
          scores: scorer -> [pairs].
        """
        labels = batch.of_pairs(names.LABEL)
        target = _targets(batch.candidates, labels)
        timestamps = batch.of_impressions(names.TIMESTAMP)
        history = batch.features[names.HISTORY_AGE]
        length = history.row_lengths().numpy()
        ages = np.append(history.values.numpy(), 0)
        oldest = timestamps - ages[history.row_starts().numpy()]
        seen, category_seen = (
            match[target, MATCH_FEATURE_NAMES.index(name)] > 0 for name in ("item_seen", "category_seen")
        )
        scored = Scored(
            users=batch.of_impressions(names.USER_ID),
            negative_set=np.array([_PLACE[name] for name in batch.negative_set.tolist()], np.int8),
            attributes=attributes(
                timestamps=timestamps,
                history_length=length,
                target_behavior=batch.of_impressions(names.TARGET_BEHAVIOR),
                item_seen=seen,
                category_seen=category_seen,
                target_count=counts[target],
                bounds=self._popularity,
                user_known=(length > 0) & (oldest < self._validation_start),
                features={name: _values(batch, name, target) for name in self._features},
                zone=self._zone,
            ),
            candidates=batch.candidates,
            labels=labels.astype(np.int8),
            scores=scores,
        )
        return ScoredShard(scored, timestamps)


def one_shard(parts: Sequence[ScoredShard]) -> ScoredShard:
    """All parts, at least one, as one."""
    return ScoredShard(joined([part.scored for part in parts]), np.concatenate([part.timestamps for part in parts]))


_PLACE = {name.encode(): place for place, name in enumerate(names.EVALUATION_SETS)}


def _targets(candidates: Int64Array, labels: Array) -> Int64Array:
    """[B] place among the pairs of each impression's positive; of its first candidate where there is none."""
    target = np.cumsum(candidates) - candidates
    positives = np.flatnonzero(labels > 0)[::-1]
    target[np.repeat(np.arange(candidates.size), candidates)[positives]] = positives
    return target


def _values(batch: Impressions, name: str, target: Int64Array) -> Array:
    if names.FEATURES[name].group == "candidate":
        return batch.of_pairs(name)[target]
    return batch.of_impressions(name)
