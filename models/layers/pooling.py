"""Pooling of a history into one vector."""

from __future__ import annotations

import tensorflow as tf


def masked_mean(x: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Mean over the real steps: x [B, T, C], mask [B, T] bool -> [B, C]; zero where no step is real."""
    weight = tf.cast(mask, x.dtype)[..., None]
    return tf.reduce_sum(x * weight, axis=1) / tf.maximum(tf.reduce_sum(weight, axis=1), 1)


def for_each_candidate(x: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
    """Repeats [B, C], which no candidate has a say in, for the N of ``candidates`` [B, N, D]: [B, N, C]."""
    shape = tf.concat([tf.shape(candidates)[:2], [x.shape[-1]]], axis=0)
    return tf.ensure_shape(tf.broadcast_to(tf.expand_dims(x, 1), shape), [*candidates.shape[:2], x.shape[-1]])
