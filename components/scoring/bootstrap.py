"""Intervals by resampling users.

Users are what is drawn at random; the pairs of one user resemble each other, so resampling pairs would give intervals
that are too narrow. A resample draws as many users as there are, with replacement (Efron 1979), and a user's pairs stay
together. All that is measured is a function of sums over users (:mod:`ctr.components.scoring.sums`), so a resample is a
vector of weights on those sums and costs as much as there are users, not pairs. The model, the blessed model and each
baseline get the same weights: the difference of two of them has an interval of its own, which is *paired*.

Above :data:`MOST_UNITS` users, users are put at random into so many equal groups, which are resampled in their place:
sums of groups vary as those of their users do, and a standard error from 2,000 groups is itself right to 2 %.

The ends are percentiles of the resampled values, expanded for few users by the factor sqrt(n / (n - 1)) and Student's t
(Hesterberg 2015, "What teachers should know about the bootstrap", The American Statistician 69).
"""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.special import ndtr, stdtrit

from ctr.models.arrays import Array, BoolArray, FloatArray, Int64Array

MOST_UNITS: Final = 2000
"""Users, or random groups of them, that are resampled at most."""
FEWEST_UNITS: Final = 30
"""With fewer users that count for a metric, there is no interval."""
SEED: Final = 2017


class Resampler:
    """The resamples of an evaluation.

    Args:
      users: [n] int64, of the impressions; their order does not matter.
      resamples: how many.
      seed: equal seeds and users give equal resamples.
    """

    def __init__(self, users: Array, resamples: int, seed: int = SEED) -> None:
        rng = np.random.default_rng(seed)
        known, self.user = np.unique(users, return_inverse=True)
        """[n] dense user."""
        units = min(known.size, MOST_UNITS)
        unit_of_user = rng.permutation(known.size) % max(units, 1)
        self.unit: Int64Array = unit_of_user[self.user]
        """[n] what is resampled: the user, or its group."""
        self.units = units
        drawn = rng.integers(0, max(units, 1), (resamples, units)) + units * np.arange(resamples)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=resamples * units)
        self.weights: FloatArray = counts.reshape(resamples, units).astype(np.float64)
        """[resamples, units] how often each is drawn."""


def interval(resampled: FloatArray, units: Array, confidence: float) -> tuple[FloatArray, FloatArray]:
    """The two-sided interval of each of s values.

    Args:
      resampled: [resamples, s].
      units: [s], users or groups that each value is of.
      confidence: between 0 and 1; one end alone has a confidence of (1 + confidence) / 2.

    Returns:
      [s] low and [s] high; NaN where there are fewer than :data:`FEWEST_UNITS`, or a resample has no value.
    """
    enough: BoolArray = (units >= FEWEST_UNITS) & np.isfinite(resampled).all(axis=0)
    low, high = np.full((2, resampled.shape[1]), np.nan)
    n = units[enough].astype(np.float64)
    tail = ndtr(stdtrit(n - 1, (1 - confidence) / 2) * np.sqrt(n / (n - 1)))
    rising = np.sort(resampled[:, enough], axis=0)
    low[enough] = _at(rising, tail)
    high[enough] = _at(rising, 1 - tail)
    return low, high


def _at(rising: FloatArray, shares: FloatArray) -> FloatArray:
    place = shares * (len(rising) - 1)
    before = np.floor(place).astype(np.int64)
    column = np.arange(rising.shape[1])
    lower, upper = rising[before, column], rising[np.minimum(before + 1, len(rising) - 1), column]
    # A difference that is 0 in every resample stays exactly 0.
    between: FloatArray = lower + (place - before) * (upper - lower)
    return between
