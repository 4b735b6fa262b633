"""Pooling of a history into one vector."""

from __future__ import annotations

import tensorflow as tf


def masked_mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the real steps: x [B, T, C], mask [B, T] bool -> [B, C]; zero where no step is real."""
    weight = tf.cast(mask, x.dtype)[..., None]
    return tf.reduce_sum(x * weight, axis=1) / tf.maximum(tf.reduce_sum(weight, axis=1), 1)


def for_each_candidate(x: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Repeats [B, C], which no candidate has a say in, for the N of ``candidates`` [B, N, D]: [B, N, C]."""
    return tf.repeat(x[:, None, :], tf.shape(candidates)[1], axis=1)
