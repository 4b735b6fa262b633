"""Gated recurrence over the real steps of histories, with a gradient of its own: what trains on a CPU.

Histories go longest first, so that those that have a step are the first ones of it: each step of the loop is computed
for them alone, as PyTorch's ``PackedSequence`` does. The gradient's loop is linear in the gradient of a state: all of
its factors, and the gradients of weights and inputs, are computed for all steps at once, outside of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class RealSteps(NamedTuple):
    """The R real steps of S sequences: all first ones, all second ones, and so on, from the longest sequence on."""

    places: tf.Tensor
    """[R, 2] int64: which sequence, which step."""
    counts: tf.Tensor
    """[T] int32, falling: how many sequences have the step; T is that of the longest one, at least 1."""


def real_steps(mask: tf.Tensor) -> RealSteps:
    """Of [S, T] bool, true for the first steps of each sequence."""
    lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
    order = tf.argsort(lengths, direction="DESCENDING", stable=True)
    longest_first = tf.transpose(tf.gather(mask, order))
    step, rank = tf.unstack(tf.where(longest_first), axis=1)
    counts = tf.reduce_sum(tf.cast(longest_first, tf.int32), axis=1)
    steps = tf.maximum(tf.math.count_nonzero(counts, dtype=tf.int32), 1)
    # Of histories without any place for an event there is a step that none of them has.
    counts = tf.pad(counts, [[0, 1]])[:steps]
    return RealSteps(tf.stack([tf.cast(tf.gather(order, rank), tf.int64), step], axis=1), counts)


def gated_states(
    x: tf.Tensor, weight: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, counts: tf.Tensor
) -> tf.Tensor:
    """h_t = h + a u (c - h) with u, r = sigmoid(x_u + h U_u), sigmoid(x_r + h U_r), c = tanh(x_c + r (h U_c + b)),
    from h_0 = 0.

    Args:
      x: [R, 3 H], inputs by their matrix, in the order u, r, c.
      weight: [R, 1], a.
      recurrent: U, [H, 3 H].
      bias: b, [H].
      counts: of :class:`RealSteps`.

    Returns:
      [R, H], the state after each step.
    """
    steps, units = tf.size(counts), recurrent.shape[0]
    sizes = [2 * units, units]
    firsts = tf.stack([counts, tf.fill([steps], -1)], axis=1)
    none = tf.zeros([steps], tf.int32)
    back = tf.concat([counts[:1], counts[:-1]], axis=0) - counts
    added = tf.reshape(tf.stack([none, back, none, none], axis=1), [-1, 2, 2])

    def in_steps(rows: tf.Tensor) -> tf.TensorArray:
        return _array(steps, rows.shape[1], rows.dtype).split(rows, counts)

    @tf.custom_gradient
    def run(
        x: tf.Tensor, weight: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        gates, candidates = tf.split(x, sizes, axis=1)
        gates_at, candidates_at, weight_at = in_steps(gates), in_steps(candidates), in_steps(weight)

        def forward(
            t: tf.Tensor, h: tf.Tensor, before: tf.TensorArray, after: tf.TensorArray
        ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray, tf.TensorArray]:
            h = tf.ensure_shape(tf.slice(h, [0, 0], tf.gather(firsts, t)), [None, units])
            of_gates, of_candidate = tf.split(tf.matmul(h, recurrent), sizes, axis=1)
            update, reset = tf.split(tf.sigmoid(gates_at.read(t) + of_gates), 2, axis=1)
            candidate = tf.tanh(candidates_at.read(t) + reset * (of_candidate + bias))
            state = h + weight_at.read(t) * update * (candidate - h)
            return t + 1, state, before.write(t, h), after.write(t, state)

        start = tf.zeros([counts[0], units], x.dtype)
        arrays = [_array(steps, units, x.dtype) for _ in range(2)]
        h, states = (found.concat() for found in _loop(steps, forward, start, *arrays))

        def gradient(of_states: tf.Tensor) -> tuple[tf.Tensor, ...]:
            of_gates, of_candidate = tf.split(tf.matmul(h, recurrent), sizes, axis=1)
            of_candidate += bias
            update, reset = tf.split(tf.sigmoid(gates + of_gates), 2, axis=1)
            candidate = tf.tanh(candidates + reset * of_candidate)
            kept, change = 1.0 - weight * update, candidate - h
            # What a state's gradient is multiplied by for that of each pre-activation.
            by_candidate = (1.0 - kept) * (1.0 - tf.square(candidate))
            by_reset = by_candidate * of_candidate * reset * (1.0 - reset)
            by_update = (1.0 - kept) * change * (1.0 - update)
            factors = tf.concat([by_update, by_reset, by_candidate * reset], axis=1)
            of_states_at, kept_at, factors_at = in_steps(of_states), in_steps(kept), in_steps(factors)

            def backward(
                number: tf.Tensor, later: tf.Tensor, found: tf.TensorArray
            ) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
                t = steps - 1 - number
                of_state = of_states_at.read(t) + later
                of_product = tf.tile(of_state, [1, 3]) * factors_at.read(t)
                earlier = of_state * kept_at.read(t) + tf.matmul(of_product, recurrent, transpose_b=True)
                earlier = tf.ensure_shape(tf.pad(earlier, tf.gather(added, t)), [None, units])
                return number + 1, earlier, found.write(t, of_state)

            last = tf.zeros([counts[-1], units], x.dtype)
            (array,) = _loop(steps, backward, last, _array(steps, units, x.dtype))
            found = array.concat()
            of_product = tf.tile(found, [1, 3]) * factors
            of_x = tf.concat([of_product[:, : 2 * units], found * by_candidate], axis=1)
            of_weight = tf.reduce_sum(found * change * update, axis=1, keepdims=True)
            of_bias = tf.reduce_sum(of_product[:, 2 * units :], axis=0)
            return of_x, of_weight, tf.matmul(h, of_product, transpose_a=True), of_bias

        return states, gradient

    states: tf.Tensor = run(x, weight, recurrent, bias)
    return states


def _array(steps: tf.Tensor, width: int, dtype: tf.DType) -> tf.TensorArray:
    return tf.TensorArray(dtype, size=steps, element_shape=[None, width], infer_shape=False)


def _loop(
    steps: tf.Tensor, body: Callable[..., tuple[object, ...]], state: tf.Tensor, *arrays: tf.TensorArray
) -> tuple[tf.TensorArray, ...]:
    """The arrays after all steps."""
    _, _, *filled = tf.while_loop(lambda t, *_: t < steps, body, (0, state, *arrays))
    return tuple(filled)
