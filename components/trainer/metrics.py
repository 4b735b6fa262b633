"""AUC that can be summed over replicas, workers and batches."""

from __future__ import annotations

from typing import Final

import numpy as np
import tensorflow as tf

from ctr.models.arrays import Array

BINS: Final = 1 << 14
"""Bins of the score; the AUC's error is at most half the share of pairs that fall in one bin."""


def score_histogram(logits: tf.Tensor, labels: tf.Tensor, real: tf.Tensor) -> tf.Tensor:
    """Counts of pairs by label and probability.

    Args:
      logits: [B, N] float32.
      labels: [B, N] float32, 0 or 1.
      real: [B, N] bool.

    Returns:
      [2, BINS] float64: negatives, positives.
    """
    bin_of = tf.cast(tf.sigmoid(tf.cast(logits, tf.float64)) * BINS, tf.int32)
    bin_of = tf.clip_by_value(bin_of, 0, BINS - 1)
    flat = tf.reshape(tf.cast(labels, tf.int32) * BINS + bin_of, [-1])
    weight = tf.reshape(tf.cast(real, tf.float64), [-1])
    return tf.reshape(tf.math.unsorted_segment_sum(weight, flat, 2 * BINS), [2, BINS])


def auc_of_histogram(histogram: Array) -> float:
    """P(positive above negative) + P(equal) / 2, over the pairs counted; NaN where a class is missing."""
    negatives, positives = histogram
    total = negatives.sum() * positives.sum()
    if total == 0:
        return float("nan")
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / total)
