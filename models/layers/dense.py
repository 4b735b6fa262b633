"""Dense layers over the last axis as one matrix product.

Keras multiplies [..., C] with [C, U] as a batch of products and broadcasts the matrix, whose gradient is then summed
over the batch: 1.3 to 1.7 times the time of one product over all rows on a CPU with TensorFlow 2.16.2, no more
with 2.21.0. With axes of size 1, oneDNN's kernel for it has also given wrong values and crashed (2.16.2).
"""

from __future__ import annotations

import keras
import tensorflow as tf


def rows_matmul(x: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """[..., C] times [C, U]: [..., U]."""
    product = tf.matmul(tf.reshape(x, [-1, matrix.shape[0]]), matrix)
    # The static shape, where known, is what Keras' layers behind this one look at.
    result = tf.reshape(product, tf.concat([tf.shape(x)[:-1], [matrix.shape[1]]], axis=0))
    return tf.ensure_shape(result, [*x.shape[:-1], matrix.shape[1]])


class Dense(keras.layers.Dense):
    """``keras.layers.Dense``, computed by :func:`rows_matmul`."""

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """[..., C] -> [..., units]."""
        x = rows_matmul(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            x += tf.convert_to_tensor(self.bias)
        return self.activation(x) if self.activation is not None else x
