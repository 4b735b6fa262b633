"""Finding values in a rising list."""

from __future__ import annotations

import tensorflow as tf


def find(rising: tf.Tensor, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where each value stands.

    Args:
      rising: [n] int64, n >= 1, each value once.
      values: int64, any shape.

    Returns:
      int64 places in ``rising`` and whether the value is there, both of the shape of ``values``; the place of one that
      is not there has no meaning.
    """
    flat = tf.reshape(values, [-1])
    place = tf.minimum(tf.searchsorted(rising, flat, out_type=tf.int64), tf.size(rising, tf.int64) - 1)
    place = tf.reshape(place, tf.shape(values))
    return place, tf.gather(rising, place) == values
