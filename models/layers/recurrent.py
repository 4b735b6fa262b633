"""Recurrence over the history, right-padded and oldest first as everywhere."""

from __future__ import annotations

import keras
import tensorflow as tf

from ctr.models.compiled import is_compiled, is_on_cpu
from ctr.models.layers.dense import rows_matmul
from ctr.models.layers.real_steps import gated_states, real_steps


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


def states_of(layer: keras.layers.RNN, events: tf.Tensor, mask: tf.Tensor, training: bool) -> tf.Tensor:
    """The state of each step of a recurrent layer of Keras, without dropout.

    Args:
      layer: gives all states.
      events: [B, T, C].
      mask: [B, T] bool, the real steps, from the first on.
      training: whether a gradient is taken.

    Returns:
      [B, T, H]; what stands at a step that is not real has no meaning.
    """
    fused = not is_compiled() and bool(tf.config.list_logical_devices("GPU"))
    if isinstance(layer, keras.layers.GRU) and training and is_on_cpu():
        return _states_of_real(layer, events, mask)
    if isinstance(layer, keras.layers.GRU) and not fused:
        return _gru_states(layer, events)
    # XLA cannot compile the fused kernels that Keras takes where there is a GPU. A simple layer has none.
    if hasattr(layer, "use_cudnn"):
        layer.use_cudnn = "auto" if fused else False
    return layer(events, training=training)


def _states_of_real(layer: keras.layers.GRU, events: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    # Keras' first gate keeps: 1 - sigmoid(s) = sigmoid(-s).
    sign = tf.repeat(tf.constant([-1.0, 1.0, 1.0], events.dtype), layer.units)
    kernel, recurrent, bias = (
        tf.cast(weight, events.dtype) * sign
        for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
    )
    of_gates, of_state = tf.split(bias[1], [2 * layer.units, layer.units], axis=0)
    places, counts = real_steps(mask)
    x = tf.gather_nd(events, places)
    projected = tf.matmul(x, kernel) + (bias[0] + tf.pad(of_gates, [[0, layer.units]]))
    states = gated_states(projected, tf.ones_like(x[:, :1]), recurrent, of_state, counts)
    shape = tf.concat([tf.shape(mask, tf.int64), [layer.units]], axis=0)
    return tf.ensure_shape(tf.scatter_nd(places, states, shape), [*events.shape[:2], layer.units])


def _gru_states(layer: keras.layers.GRU, events: tf.Tensor) -> tf.Tensor:
    """Half of the time of Keras' own loop on a CPU, which projects the events step by step, and whose slices' gradients
    are filled with zeros and added up."""
    kernel, recurrent, bias = (
        tf.cast(weight, events.dtype) for weight in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)
    )
    sizes = [2 * layer.units, layer.units]
    of_events, of_states = tf.unstack(bias)

    def step(state: tf.Tensor, projected: tf.Tensor) -> tf.Tensor:
        x_gates, x = tf.split(projected, sizes, axis=-1)
        h_gates, h = tf.split(tf.matmul(state, recurrent) + of_states, sizes, axis=-1)
        update, reset = tf.split(tf.sigmoid(x_gates + h_gates), 2, axis=-1)
        candidate = tf.tanh(x + reset * h)
        return candidate + update * (state - candidate)

    projected = tf.transpose(rows_matmul(events, kernel) + of_events, [1, 0, 2])
    states = tf.scan(step, projected, tf.zeros([tf.shape(events)[0], layer.units], events.dtype))
    return tf.ensure_shape(tf.transpose(states, [1, 0, 2]), [*events.shape[:2], layer.units])


def longest(mask: tf.Tensor) -> tf.Tensor | int:
    """Steps of the longest history of a batch, at least 1: recurrence need not go further. All of them, compiled."""
    if is_compiled():
        return max(mask.shape[1], 1)
    return tf.maximum(tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)), 1)


def cut(x: tf.Tensor, steps: tf.Tensor | int) -> tf.Tensor:
    """[B, T, ...] to [B, steps, ...], with zeros behind where T is less: ``PADDING_ID``, or False."""
    kept = tf.minimum(steps, tf.shape(x)[1])
    return tf.pad(some_steps(x, kept), [[0, 0], [0, steps - kept], *[[0, 0]] * (len(x.shape) - 2)])


def some_steps(x: tf.Tensor, steps: tf.Tensor | int, first: int = 0) -> tf.Tensor:
    """x[:, first : first + steps], whose gradient costs a CPU several times that of ``tf.slice``."""
    rest = len(x.shape) - 2
    part = tf.slice(x, [0, first, *[0] * rest], tf.stack([-1, steps, *[-1] * rest]))
    return tf.ensure_shape(part, [x.shape[0], None, *x.shape[2:]])


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

    def call(self, x: tf.Tensor, attention: tf.Tensor, mask: tf.Tensor, training: bool = False) -> tf.Tensor:
        """The last state of each candidate's evolution.

        Args:
          x: [B, T, C]; its projection is computed once for all candidates.
          attention: [B, N, T], 0 where ``mask`` does not hold.
          mask: [B, T] bool, the real steps, from the first on.
          training: whether a gradient is taken.

        Returns:
          [B, N, H].
        """
        if training and is_on_cpu():
            return self._over_real_steps(x, attention, mask)
        projected = rows_matmul(x, tf.cast(self.kernel, x.dtype)) + tf.cast(self.bias, x.dtype)
        recurrent = tf.cast(self.recurrent_kernel, x.dtype)
        sizes = [2 * self.units, self.units]
        batch, candidates = tf.unstack(tf.shape(attention)[:2])

        def step(state: tf.Tensor, at: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
            inputs, weight = at
            # The gradient of a slice, of one that only adds an axis, too, is filled with zeros first: none in a loop.
            x_gates, x = tf.split(tf.expand_dims(inputs, 1), sizes, axis=-1)
            h_gates, h = tf.split(rows_matmul(state, recurrent), sizes, axis=-1)
            update, reset = tf.split(tf.sigmoid(x_gates + h_gates), 2, axis=-1)
            candidate = tf.tanh(x + reset * h)
            update *= tf.expand_dims(weight, -1)
            return state + update * (candidate - state)

        start = tf.zeros([batch, candidates, self.units], x.dtype)
        # foldl keeps no states for the caller; the gradient's tape keeps what it needs.
        state = tf.foldl(step, (tf.transpose(projected, [1, 0, 2]), tf.transpose(attention, [2, 0, 1])), start)
        return tf.ensure_shape(state, [None, None, self.units])

    def _over_real_steps(self, x: tf.Tensor, attention: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
        kernel, recurrent, bias = (tf.cast(w, x.dtype) for w in (self.kernel, self.recurrent_kernel, self.bias))
        batch, candidates, length = tf.unstack(tf.shape(attention, tf.int64))
        # Each candidate's evolution is a sequence of its own, over the events of its impression.
        of_each = tf.repeat(mask, candidates, axis=0)
        places, counts = real_steps(of_each)
        sequence, step = tf.unstack(places, axis=1)
        projected = rows_matmul(x, kernel) + bias
        inputs = tf.gather_nd(projected, tf.stack([sequence // candidates, step], axis=1))
        weight = tf.expand_dims(tf.gather_nd(tf.reshape(attention, [-1, length]), places), 1)
        states = gated_states(inputs, weight, recurrent, tf.zeros([self.units], x.dtype), counts)
        # Where each sequence's last step stands, one behind all states for those that have none.
        last = tf.math.unsorted_segment_max(tf.range(tf.size(sequence)), sequence, batch * candidates)
        last = tf.where(last < 0, tf.size(sequence), last)
        state = tf.gather(tf.pad(states, [[0, 1], [0, 0]]), last)
        return tf.ensure_shape(tf.reshape(state, tf.stack([batch, candidates, self.units])), [None, None, self.units])
