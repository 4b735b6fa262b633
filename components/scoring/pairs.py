"""Scored pairs of candidate and label, and the metrics of them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ctr.components.scoring import auc as by_rank
from ctr.components.scoring import ranking
from ctr.components.scoring.auc import GroupedAuc
from ctr.models.arrays import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """[n] pairs of candidate and label, impression by impression."""

    labels: Array
    """[n] int8, 1 for what happened, else 0."""
    predictions: Array
    """[n] float, probabilities; of a baseline, any score."""
    users: Array
    """[n] int64."""
    new: Array
    """[n] bool, whether the positive of the pair's impression is new to the user, see
    :mod:`ctr.components.scoring.seen`."""
    candidates: Array
    """[impressions] int64, how many pairs each impression has; they sum to n."""

    def __post_init__(self) -> None:
        shapes = {field: getattr(self, field).shape[:1] for field in COLUMNS}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"a value a pair is needed: {', '.join(f'{k} {v}' for k, v in shapes.items())}")
        if self.candidates.sum() != self.labels.size:
            raise ValueError(f"candidates sum to {self.candidates.sum()}, but there are {self.labels.size} pairs")

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of all parts, at least one."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in (*COLUMNS, "candidates")}
        return cls(**columns)

    def scored(self, predictions: Array) -> Pairs:
        """The same pairs with other predictions [n]."""
        return dataclasses.replace(self, predictions=predictions)

    @property
    def impressions(self) -> int:
        """How many."""
        return self.candidates.size

    @functools.cached_property
    def ranks(self) -> ranking.Ranks:
        """How the positives stand in their impressions."""
        return ranking.ranks(self.candidates, self.labels > 0, self.predictions)

    @functools.cached_property
    def by_user(self) -> GroupedAuc:
        """AUC of each user."""
        return by_rank.grouped_auc(self.users, self.labels, self.predictions)


COLUMNS: Final = ("labels", "predictions", "users", "new")
"""What :class:`Pairs` holds of each pair."""


def finite(value: float) -> float | None:
    """A metric as reports have it: None where it is undefined."""
    return value if math.isfinite(value) else None


# --- The metrics of the table in components/scoring/metrics.py. NaN where undefined. ----------------------------------


def auc(pairs: Pairs) -> float:
    """Of all pairs."""
    return by_rank.auc(pairs.labels, pairs.predictions)


def auc_new(pairs: Pairs) -> float:
    """On the impressions whose positive is new to the user."""
    return by_rank.auc(pairs.labels[pairs.new], pairs.predictions[pairs.new])


def gauc(pairs: Pairs) -> float:
    """AUC of each user, weighted by its number of pairs."""
    return pairs.by_user.value


def gauc_request(pairs: Pairs) -> float:
    """AUC of each impression, weighted by its number of pairs; those of one class are left out."""
    ranked, size = pairs.ranks.ranked, pairs.candidates
    weight = size[ranked].sum()
    return float((pairs.ranks.auc * size)[ranked].sum() / weight) if weight else math.nan


def gauc_users(pairs: Pairs) -> float:
    """Users in it."""
    return pairs.by_user.groups


def gauc_users_skipped(pairs: Pairs) -> float:
    """Users who have pairs of one class only."""
    return pairs.by_user.skipped


def log_loss(pairs: Pairs) -> float:
    """Mean over pairs in nats, probabilities clipped to 1e-7."""
    return _mean(ranking.losses(pairs.labels > 0, pairs.predictions))


def normalised_entropy(pairs: Pairs) -> float:
    """Log loss over that of always predicting the share of positives (He et al. 2014); below 1 is better than that."""
    rate = _mean(pairs.labels)
    return log_loss(pairs) / -(rate * math.log(rate) + (1 - rate) * math.log1p(-rate)) if 0 < rate < 1 else math.nan


def calibration(pairs: Pairs) -> float:
    """Sum of probabilities over sum of labels."""
    positives = int(pairs.labels.sum(dtype=np.int64))
    return float(pairs.predictions.sum(dtype=np.float64)) / positives if positives else math.nan


def ndcg(pairs: Pairs) -> float:
    """NDCG at rank 10 over an impression's candidates; ties as in :class:`ctr.components.scoring.ranking.Ranks`."""
    return _mean(pairs.ranks.ndcg[pairs.ranks.ranked])


def mrr(pairs: Pairs) -> float:
    """Mean reciprocal rank of the positive among its impression's candidates; ties likewise."""
    return _mean(pairs.ranks.mrr[pairs.ranks.ranked])


def hit_rate(pairs: Pairs) -> float:
    """Share of impressions whose positive stands first; ties likewise."""
    return _mean(pairs.ranks.hit_rate[pairs.ranks.ranked])


def pairs(pairs: Pairs) -> float:
    """How many."""
    return pairs.labels.size


def pairs_new(pairs: Pairs) -> float:
    """Of the impressions of ``auc_new``."""
    return int(pairs.new.sum())


def example_count(pairs: Pairs) -> float:
    """Impressions."""
    return pairs.impressions


def _mean(values: Array) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else math.nan
