"""Recurrence over the history, right-padded and oldest first as everywhere."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.compiled import is_compiled
from ctr.models.layers.dense import rows_matmul


def state_at_last_event(states: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """The state after the last real step.

    Args:
      states: [B, T, H], T >= 1.
      mask: [B, <= T] bool, the real steps, from the first on.

    Returns:
      [B, H]; zeros where no step is real.
    """
    length = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    last = tf.gather(states, tf.maximum(length - 1, 0), batch_dims=1)
    return last * tf.cast(length > 0, states.dtype)[:, None]


def states_of(layer: keras.layers.Layer, events: tf.Tensor, training: bool) -> tf.Tensor:
    """The state of each step of a recurrent layer of Keras: [B, T, C] to [B, T, H]."""
    # XLA cannot compile the fused kernels that Keras takes where there is a GPU. A simple layer has none.
    if hasattr(layer, "use_cudnn"):
        layer.use_cudnn = False if is_compiled() else "auto"
    return layer(events, training=training)


def longest(mask: tf.Tensor) -> tf.Tensor | int:
    """Steps of the longest history of a batch, at least 1: recurrence need not go further. All of them, compiled."""
    if is_compiled():
        return max(mask.shape[1], 1)
    return tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)), 1)


def cut(x: tf.Tensor, steps: tf.Tensor | int) -> tf.Tensor:
    """[B, T, ...] to [B, steps, ...], with zeros behind where T is less: ``PADDING_ID``, or False."""
    return tf.pad(x[:, :steps], [[0, 0], [0, tf.maximum(steps - tf.shape(x)[1], 0)], *[[0, 0]] * (len(x.shape) - 2)])


class AttentionalGRU(keras.layers.Layer):
    """GRU whose update gate is scaled by an attention weight (AUGRU; DIEN, arXiv 1809.03672, eq. 3-5 and 10-11).

    u_t = sigmoid(W_u x_t + U_u h + b_u), r_t = sigmoid(W_r x_t + U_r h + b_r),
    c_t = tanh(W_c x_t + r_t * (U_c h) + b_c), u'_t = a_t u_t, h_t = (1 - u'_t) h + u'_t c_t, from h_0 = 0.
    A weight of 0 freezes the state (the official code scales the keep gate instead, and does not), so that padding,
    which has weight 0, needs no mask.

    Args:
      units: H.
    """

    def __init__(self, units: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.units = units

    def build(self, width: int) -> None:
        """Creates the weights for inputs of ``width`` channels, gates in the order u, r, c."""
        self.kernel = self.add_weight(shape=(width, 3 * self.units), initializer="glorot_uniform", name="kernel")
        self.recurrent_kernel = self.add_weight(
            shape=(self.units, 3 * self.units), initializer="orthogonal", name="recurrent_kernel"
        )
        self.bias = self.add_weight(shape=(3 * self.units,), initializer="zeros", name="bias")
        self.built = True

    def call(self, x: tf.Tensor, attention: tf.Tensor) -> tf.Tensor:
        """The last state of each candidate's evolution.

        Args:
          x: [B, T, C]; its projection is computed once for all candidates.
          attention: [B, N, T].

        Returns:
          [B, N, H].
        """
        projected = rows_matmul(x, tf.cast(self.kernel, x.dtype)) + tf.cast(self.bias, x.dtype)
        recurrent = tf.cast(self.recurrent_kernel, x.dtype)
        batch, candidates = tf.unstack(tf.shape(attention)[:2])

        def step(state: tf.Tensor, at: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            inputs, weight = at
            hidden = rows_matmul(state, recurrent)
            inputs = inputs[:, None, :]
            gates = tf.sigmoid(inputs[..., : 2 * self.units] + hidden[..., : 2 * self.units])
            update, reset = tf.split(gates, 2, axis=-1)
            candidate = tf.tanh(inputs[..., 2 * self.units :] + reset * hidden[..., 2 * self.units :])
            update *= weight[..., None]
            return state + update * (candidate - state)

        start = tf.zeros([batch, candidates, self.units], x.dtype)
        # foldl keeps no states for the caller; the gradient's tape keeps what it needs.
        state = tf.foldl(step, (tf.transpose(projected, [1, 0, 2]), tf.transpose(attention, [2, 0, 1])), start)
        return tf.ensure_shape(state, [None, None, self.units])
