"""Exact AUC by ranks, whole and grouped.

The baselines and the GAUC of the model come from the same two functions, so that they can stand in one table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ctr.components.lookup import starts_run
from ctr.components.scoring.ranking import twice_wins
from ctr.models.arrays import Array
from ctr.models.errors import DataError


@dataclass(frozen=True)
class GroupedAuc:
    """AUC of each group, averaged with the groups' numbers of pairs as weights (GAUC)."""

    value: float
    """The average, NaN if no group has both classes."""
    groups: int
    """Groups that count."""
    skipped: int
    """Groups of one class, which have no AUC."""


def auc(labels: Array, scores: Array) -> float:
    """Probability that a positive scores above a negative; a tie counts one half.

    Args:
      labels: [n], 1 or 0.
      scores: [n], finite or infinite.

    Returns:
      The AUC, NaN where a class is missing.

    Raises:
      DataError: if a score is NaN.
    """
    return grouped_auc(np.zeros(len(labels), np.int64), labels, scores).value


def grouped_auc(groups: Array, labels: Array, scores: Array) -> GroupedAuc:
    """GAUC; the result does not depend on the order of the pairs.

    Args:
      groups: [n] int64, e.g. user ids.
      labels: [n], 1 or 0.
      scores: [n], finite or infinite.

    Raises:
      DataError: if a score is NaN.
    """
    if not groups.shape == labels.shape == scores.shape:
        raise ValueError(f"shapes differ: groups {groups.shape}, labels {labels.shape}, scores {scores.shape}")
    if np.isnan(scores).any():
        raise DataError(f"{int(np.isnan(scores).sum())} of {scores.size} scores are NaN: the model diverged")
    order = np.lexsort((scores, groups))
    groups, positive, scores = groups[order], labels[order] > 0, scores[order]
    starts = starts_run(groups)
    group = np.cumsum(starts) - 1
    size = np.bincount(group)
    positives = np.bincount(group, weights=positive)
    compared = positives * (size - positives)
    wins = np.bincount(group, weights=np.where(positive, twice_wins(starts, positive, scores), 0)) / 2

    both = compared > 0
    value = float(np.average(wins[both] / compared[both], weights=size[both])) if both.any() else math.nan
    return GroupedAuc(value, int(both.sum()), int((~both).sum()))
