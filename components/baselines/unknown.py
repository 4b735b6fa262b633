"""Counts candidates that the vocabulary does not know, by split, negative set and label.

With uniform negatives, never having been seen tells the label by itself; no AUC is to be believed before these rates
are known.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ctr.components.examples.impressions import Impressions
from ctr.components.scoring.baselines import UnknownShare
from ctr.models import impression as names
from ctr.models.arrays import Array


class UnknownCounter:
    """Running counts over batches."""

    def __init__(self) -> None:
        # (split, negative set, is positive) -> candidates, unknown items, unknown categories
        self._counts: defaultdict[tuple[str, str, bool], Array] = defaultdict(lambda: np.zeros(3, np.int64))

    def add(self, split: str, batch: Impressions) -> None:
        """Counts every candidate of a batch."""
        negative_set = batch.for_pairs(batch.negative_set)
        positive = batch.of_pairs(names.LABEL) == 1
        counted = np.stack(
            [
                np.ones(positive.size, np.int64),
                batch.of_pairs(names.CANDIDATE_ITEM_INDEX) == names.UNKNOWN_INDEX,
                batch.of_pairs(names.CANDIDATE_CATEGORY_INDEX) == names.UNKNOWN_INDEX,
            ],
            axis=1,
        )
        for name in np.unique(batch.negative_set).tolist():
            for label in (True, False):
                rows = (negative_set == name) & (positive == label)
                if rows.any():
                    self._counts[split, name.decode(), label] += counted[rows].sum(axis=0)

    def shares(self) -> tuple[UnknownShare, ...]:
        """The counts so far, in the order of splits, negative sets and labels; what never occurred is left out."""
        return tuple(
            UnknownShare(
                split=split,
                negative_set=negative_set,
                label="positive" if positive else "negative",
                candidates=int(candidates),
                unknown_items=int(items),
                unknown_categories=int(categories),
            )
            for (split, negative_set, positive), (candidates, items, categories) in sorted(
                self._counts.items(), key=lambda entry: _order(*entry[0])
            )
        )


def _order(split: str, negative_set: str, positive: bool) -> tuple[int, int, bool]:
    return names.SPLITS.index(split), (names.MIXED, *names.EVALUATION_SETS).index(negative_set), not positive
