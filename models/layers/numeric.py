"""Softmax with masks, in any precision."""

from __future__ import annotations

import tensorflow as tf


def masked_softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis where ``mask`` (bool, broadcastable) holds, 0 elsewhere; all 0 where it holds nowhere.

    Computed in float32, whatever comes in and goes out.
    """
    scores32 = tf.where(mask, tf.cast(scores, tf.float32), tf.float32.min)
    # Of a row without a real step the maximum is float32.min, and of one without steps -inf.
    highest = tf.stop_gradient(tf.maximum(tf.reduce_max(scores32, axis=-1, keepdims=True), tf.float32.min))
    exponentials = tf.where(mask, tf.exp(scores32 - highest), 0.0)
    total = tf.reduce_sum(exponentials, axis=-1, keepdims=True)
    # The largest term of a row with a real step is 1, so that a total below 1 is 0.
    return tf.cast(exponentials / tf.maximum(total, 1.0), scores.dtype)
