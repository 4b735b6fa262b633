"""Scored pairs of candidate and label, and the metrics of them."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ctr.components.scoring import auc as ranks
from ctr.components.scoring.auc import GroupedAuc
from ctr.models.arrays import Array

_CLIP: Final = 1e-7


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """[n] pairs of candidate and label."""

    labels: Array
    """[n] int8, 1 for what happened, else 0."""
    predictions: Array
    """[n] float, probabilities; of a baseline, any score."""
    users: Array
    """[n] int64."""
    new: Array
    """[n] bool, whether the positive of the pair's impression is new to the user, see
    :mod:`ctr.components.scoring.seen`."""
    impressions: int
    """How many these are the pairs of."""

    def __post_init__(self) -> None:
        shapes = {field: getattr(self, field).shape[:1] for field in COLUMNS}
        if len(set(shapes.values())) > 1:
            raise ValueError(f"a value a pair is needed: {', '.join(f'{k} {v}' for k, v in shapes.items())}")

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """The pairs of all parts, at least one."""
        columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
        return cls(**columns, impressions=sum(part.impressions for part in parts))

    def scored(self, predictions: Array) -> Pairs:
        """The same pairs with other predictions [n]."""
        return dataclasses.replace(self, predictions=predictions)

    @functools.cached_property
    def by_user(self) -> GroupedAuc:
        """AUC of each user."""
        return ranks.grouped_auc(self.users, self.labels, self.predictions)


COLUMNS: Final = ("labels", "predictions", "users", "new")
"""What :class:`Pairs` holds of each pair."""


def finite(value: float) -> float | None:
    """A metric as reports have it: None where it is undefined."""
    return value if math.isfinite(value) else None


# --- The metrics of the table in components/scoring/metrics.py. NaN where undefined. ----------------------------------


def auc(pairs: Pairs) -> float:
    """Of all pairs."""
    return ranks.auc(pairs.labels, pairs.predictions)


def auc_new(pairs: Pairs) -> float:
    """On the impressions whose positive is new to the user."""
    return ranks.auc(pairs.labels[pairs.new], pairs.predictions[pairs.new])


def gauc(pairs: Pairs) -> float:
    """AUC of each user, weighted by its number of pairs."""
    return pairs.by_user.value


def gauc_users(pairs: Pairs) -> float:
    """Users in it."""
    return pairs.by_user.groups


def gauc_users_skipped(pairs: Pairs) -> float:
    """Users who have pairs of one class only."""
    return pairs.by_user.skipped


def log_loss(pairs: Pairs) -> float:
    """Mean over pairs in nats, probabilities clipped to 1e-7."""
    of_label = np.where(pairs.labels > 0, pairs.predictions, 1 - pairs.predictions)
    probability = np.clip(of_label, _CLIP, None)
    return float(-np.log(probability, dtype=np.float64).mean()) if pairs.labels.size else math.nan


def calibration(pairs: Pairs) -> float:
    """Sum of probabilities over sum of labels."""
    positives = int(pairs.labels.sum(dtype=np.int64))
    return float(pairs.predictions.sum(dtype=np.float64)) / positives if positives else math.nan


def pairs(pairs: Pairs) -> float:
    """How many."""
    return pairs.labels.size


def pairs_new(pairs: Pairs) -> float:
    """Of the impressions of ``auc_new``."""
    return int(pairs.new.sum())


def example_count(pairs: Pairs) -> float:
    """Impressions."""
    return pairs.impressions
