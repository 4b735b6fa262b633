"""What each pair of candidate and label contributes to a metric of scores."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from ctr.components.lookup import starts_run
from ctr.models.arrays import Array, BoolArray, FloatArray

NDCG_AT: Final = 10
"""Ranks that NDCG looks at; fewer where an impression has fewer candidates."""
CLIP: Final = 1e-7


def twice_wins(starts: BoolArray, positive: BoolArray, scores: Array) -> Array:
    """Twice the pairs of the other class, in the same group, that each pair is ranked right against.

    A positive is right above a negative; a tie counts one half. Summed over a group's positives, or over its negatives,
    this is twice its AUC's numerator.

    Args:
      starts: [n] whether a group begins; rows are sorted by group, and by rising score in it.
      positive: [n].
      scores: [n] or what has the same order and ties.

    Returns:
      [n] int32 or int64.
    """
    n = positive.size
    if not n:
        return np.zeros(0, np.int64)
    kind = np.int32 if n < 2**30 else np.int64
    positives = np.zeros(n + 1, kind)
    np.cumsum(positive, out=positives[1:])
    tie_starts = starts_run(scores)
    tie_starts |= starts
    tie, group = (np.append(np.flatnonzero(each), n).astype(kind) for each in (tie_starts, starts))
    before, size = positives[tie], np.diff(tie)
    # Each tie lies in one group: how many of these there are, and what stood before and stands up to the group's end.
    ties = np.diff(np.append(np.flatnonzero(starts[tie[:-1]]), size.size))
    up_to = positives[group]
    negatives_before, up_to_end = np.repeat((group - up_to)[:-1], ties), np.repeat(up_to[1:], ties)
    tied = np.diff(before)
    of_positive = 2 * (tie[:-1] - before[:-1] - negatives_before) + size - tied
    of_negative = 2 * (up_to_end - before[1:]) + tied
    if size.size < n:
        of_positive, of_negative = np.repeat(of_positive, size), np.repeat(of_negative, size)
    return np.where(positive, of_positive, of_negative)


def losses(positive: BoolArray, probabilities: Array) -> FloatArray:
    """Log loss of each pair in nats, probabilities clipped to 1e-7."""
    of_label = np.where(positive, probabilities, 1 - probabilities.astype(np.float64))
    loss: FloatArray = -np.log(np.clip(of_label, CLIP, None))
    return loss


class Ranks(NamedTuple):
    """How the positives of each impression stand among its candidates.

    Equal scores stand in every order with equal probability, and each value is the mean over these orders. An
    impression without a positive or without a negative has no ranking, and zeros. With several positives, ``mrr`` and
    ``hit_rate`` are means over them.
    """

    ranked: BoolArray
    """[n] whether it has one."""
    ndcg: FloatArray
    """[n] NDCG at :data:`NDCG_AT` with gains of 1 and 0 and discounts of 1 / log2(1 + rank)."""
    mrr: FloatArray
    """[n] 1 / rank."""
    hit_rate: FloatArray
    """[n] whether the rank is 1."""
    auc: FloatArray
    """[n] probability that a positive stands above a negative."""


def ranks(candidates: Array, positive: BoolArray, scores: Array) -> Ranks:
    """Of n impressions with m candidates.

    Args:
      candidates: [n] int64, how many each has; they sum to m.
      positive: [m], impression by impression.
      scores: [m].
    """
    n, most = candidates.size, int(candidates.max(initial=0))
    rank = np.arange(1, most + 1)
    discounts = np.where(rank <= NDCG_AT, 1 / np.log2(1 + rank), 0)
    # Sums over the first ranks, of which a tie takes a part.
    discount, reciprocal, first = (np.concatenate([[0], np.cumsum(v)]) for v in (discounts, 1 / rank, rank == 1))
    found = np.flatnonzero(positive)
    impression = np.repeat(np.arange(n), candidates)
    of_found = impression[found]
    positives = np.bincount(of_found, minlength=n)
    ranked = (positives > 0) & (positives < candidates)
    nth = np.arange(found.size) - (np.cumsum(positives) - positives)[of_found]
    sums, passed = np.zeros((3, n)), np.zeros(n)
    for turn in range(int(positives.max(initial=0))):
        # The positives that are the turn's of their impressions: at most one of each.
        here = found[nth == turn]
        rows = impression[here]
        own = np.full(n, np.nan, scores.dtype)
        own[rows] = scores[here]
        beside = np.repeat(own, candidates)
        above = np.bincount(impression[scores > beside], minlength=n)[rows]
        tied = np.bincount(impression[scores == beside], minlength=n)[rows]
        for place, upto in enumerate((discount, reciprocal, first)):
            sums[place, rows] += (upto[above + tied] - upto[above]) / tied
        passed[rows] += above + (tied - 1) / 2
    sums[:, ~ranked] = 0
    per_positive = np.maximum(positives, 1)
    # Whatever the order, positives stand that often above one another.
    wrong = (passed - positives * (positives - 1) / 2) / np.maximum(positives * (candidates - positives), 1)
    auc = np.where(ranked, 1 - wrong, 0)
    return Ranks(ranked, sums[0] / discount[per_positive], sums[1] / per_positive, sums[2] / per_positive, auc)
