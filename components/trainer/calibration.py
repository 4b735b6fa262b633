"""From a logit to a probability at the base rate of evaluation."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import tensorflow as tf

from ctr.components.scoring.logits import scorer
from ctr.models.arrays import Array
from ctr.models.contract import Ranker
from ctr.models.errors import DataError
from ctr.models.impression import CANDIDATE_ITEM_ID, PADDING_ID

_ITERATIONS: Final = 100
_RIDGE: Final = 1e-6
_SMALLEST_SCALE: Final = 1e-3


class Calibration(NamedTuple):
    """sigmoid(scale * logit + offset) is the probability."""

    scale: float
    offset: float


def fit_calibration(logits: Array, labels: Array, negatives_a_positive: float, *, with_scale: bool) -> Calibration:
    """Logistic regression of the label on the logit (Platt 1999), by Newton's method.

    Args:
      logits: [n] float.
      labels: [n], 0 or 1.
      negatives_a_positive: of the data that the probability is to be right for; negatives are weighted to that rate.
      with_scale: fit scale and offset, or the offset alone. A scale stays above 0, so that no order changes.

    Raises:
      DataError: if a class is missing or a logit is not finite.
    """
    logits, labels = logits.astype(np.float64), labels.astype(np.float64)
    positives = labels.sum()
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise DataError("calibration needs positives and negatives in the validation split")
    if not np.isfinite(logits).all():
        raise DataError("calibration: a logit of the validation split is not finite")
    weight = np.where(labels > 0, 1.0, negatives_a_positive * positives / negatives) / positives
    # Standardised, so that one ridge and one step limit suit any model.
    center, spread = logits.mean(), logits.std() or 1.0
    feature = (logits - center) / spread
    scale, offset = _fit(feature, labels, weight, scale=1.0 if with_scale else spread, free=with_scale)
    if scale < _SMALLEST_SCALE * spread:
        # An offset belongs to the scale that it was fitted with.
        scale, offset = _fit(feature, labels, weight, scale=_SMALLEST_SCALE * spread, free=False)
    return Calibration(scale / spread, offset - scale / spread * center)


def _fit(feature: Array, labels: Array, weight: Array, *, scale: float, free: bool) -> tuple[float, float]:
    """Scale and offset of the feature; the scale is fitted from the one given on, or kept."""
    theta = np.array([scale, 0.0])
    fitted = np.array([free, True])
    for _ in range(_ITERATIONS):
        probability = 1 / (1 + np.exp(-np.clip(theta[0] * feature + theta[1], -500, 500)))
        design = np.stack([feature, np.ones_like(feature)], axis=1)[:, fitted]
        gradient = design.T @ (weight * (probability - labels))
        curvature = (design * (weight * probability * (1 - probability))[:, None]).T @ design
        step = np.linalg.solve(curvature + _RIDGE * np.eye(fitted.sum()), gradient)
        theta[fitted] -= np.clip(step, -5, 5)
        if np.abs(step).max() < 1e-9:
            break
    return float(theta[0]), float(theta[1])


def validation_scores(model: Ranker, batches: tf.data.Dataset) -> tuple[Array, Array]:
    """[n] logits and labels of the real pairs in batches of ``read_batches``."""
    score, logits, labels = scorer(model, batches.element_spec[0]), [], []
    for inputs, label in batches:
        real = inputs[CANDIDATE_ITEM_ID].numpy() != PADDING_ID
        logits.append(score(inputs)[real])
        labels.append(label.numpy()[real])
    return np.concatenate(logits), np.concatenate(labels)
