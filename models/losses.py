"""Losses: what joins logits and labels."""

from __future__ import annotations

import tensorflow as tf


def pointwise_cross_entropy(logits: tf.Tensor, labels: tf.Tensor, real: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Binary cross-entropy of every pair.

    Args:
      logits: [B, N] float32.
      labels: [B, N] float32, 0 or 1.
      real: [B, N] bool, false for padding candidates.

    Returns:
      The sum over real pairs and their number, float32 scalars, so that a mean over several replicas can be
      taken exactly.
    """
    weight = tf.cast(real, tf.float32)
    losses = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    # A padding candidate's logit has no meaning and may not be finite.
    return tf.reduce_sum(tf.where(real, losses, 0.0)), tf.reduce_sum(weight)
