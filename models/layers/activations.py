"""Activations: ReLU, PReLU, Dice, Mish.

Each is a layer called as ``activation(x, training=..., valid=...)`` over the last axis (channels), so that
an MLP can use any of them on [B, N, C] candidates or [B, N, T, C] pairs of candidate and event.
"""

from __future__ import annotations

from collections.abc import Callable

import keras
import tensorflow as tf

from ctr.models.compiled import is_on_cpu
from ctr.models.model_config import ModelConfig
from ctr.models.registry import ACTIVATIONS


class ReLU(keras.layers.Layer):
    """max(0, s)."""

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        """Any shape in, the same shape out; ``valid`` has no effect."""
        return tf.nn.relu(x)


class PReLU(keras.layers.Layer):
    """max(0, s) + a * min(0, s), one learned ``a`` for each channel, initially 0.25 (He et al. 2015, eq. 1)."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates one slope for each channel, shared by all other axes."""
        self.slope = self.add_weight(
            shape=(input_shape[-1],), initializer=keras.initializers.Constant(0.25), name="slope"
        )

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        """[..., C] in and out; ``valid`` has no effect."""
        return tf.nn.relu(x) + tf.cast(self.slope, x.dtype) * tf.minimum(x, 0)


class Mish(keras.layers.Layer):
    """s * tanh(softplus(s)) (Misra 2019, eq. 1)."""

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        """Any shape in, the same shape out; ``valid`` has no effect."""
        return x * tf.tanh(tf.nn.softplus(x))


class Dice(keras.layers.Layer):
    """p * s + (1 - p) * a * s with p = sigmoid((s - E[s]) / sqrt(Var[s] + eps)) (DIN, arXiv 1706.06978, eq. 3).

    ``a`` is learned for each channel, initially 0. In training E and Var are of the batch, counted over the
    positions where ``valid`` holds and over all replicas together; at inference they are moving averages.
    The averages are debiased (divided by the weight they have seen), so that a short run does not leave
    them near their initial value.

    Args:
      momentum: share of the moving averages kept at each step.
      epsilon: added to the variance.
    """

    def __init__(self, momentum: float, epsilon: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Creates the slope and the moving statistics of each channel."""
        shape = (input_shape[-1],)
        self.slope = self.add_weight(shape=shape, initializer="zeros", name="slope")
        self.moving_mean = self._statistic(shape, "moving_mean")
        self.moving_square = self._statistic(shape, "moving_square")
        self.moving_weight = self._statistic((), "moving_weight")

    def _statistic(self, shape: tuple[int | None, ...], name: str) -> keras.Variable:
        # Kept in float32 under mixed precision too: a moving average of half precision stops moving.
        return self.add_weight(
            shape=shape, initializer="zeros", trainable=False, autocast=False, dtype="float32", name=name
        )

    def call(self, x: tf.Tensor, training: bool = False, valid: tf.Tensor | None = None) -> tf.Tensor:
        """[..., C] in and out.

        Args:
          x: pre-activations.
          training: use the batch's statistics and update the moving ones.
          valid: bool [...], x's shape without its last axis; positions outside it do not count.
        """
        # The normaliser runs in float32: sums over a batch of half-precision values lose too much.
        s, slope = tf.cast(x, tf.float32), tf.cast(self.slope, tf.float32)
        replica = tf.distribute.get_replica_context()
        if training and is_on_cpu() and replica is not None and replica.num_replicas_in_sync == 1:
            flat, weight = _rows(s, valid)
            y, mean, square = _in_few_passes(flat, slope, weight, self.epsilon)
            self._remember(mean, square)
            return tf.cast(tf.ensure_shape(tf.reshape(y, tf.shape(x)), x.shape), x.dtype)
        if training:
            mean, square = self._batch_moments(s, valid)
        else:
            weight = tf.convert_to_tensor(self.moving_weight)
            seen = tf.maximum(weight, 1e-12)
            mean = tf.convert_to_tensor(self.moving_mean) / seen
            # Never trained: E = 0 and Var = 1.
            square = tf.where(weight > 0, tf.convert_to_tensor(self.moving_square) / seen, 1.0)
        variance = tf.maximum(square - tf.square(mean), 0.0)
        p = tf.sigmoid((s - mean) * tf.math.rsqrt(variance + self.epsilon))
        return tf.cast(s * (slope + p * (1.0 - slope)), x.dtype)

    def _batch_moments(self, s: tf.Tensor, valid: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        channels = s.shape[-1]
        flat, weight = _rows(s, valid)
        count = tf.reduce_sum(weight)
        total, total_square = tf.reduce_sum(flat * weight, 0), tf.reduce_sum(tf.square(flat) * weight, 0)
        replica = tf.distribute.get_replica_context()
        if replica is not None and replica.num_replicas_in_sync > 1:
            sums = replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.concat([total, total_square, count[None]], axis=0))
            total, total_square, count = sums[:channels], sums[channels:-1], sums[-1]
        count = tf.maximum(count, 1.0)
        mean, square = total / count, total_square / count
        self._remember(mean, square)
        return mean, square

    def _remember(self, mean: tf.Tensor, square: tf.Tensor) -> None:
        keep = self.momentum
        self.moving_mean.assign(keep * self.moving_mean + (1 - keep) * tf.stop_gradient(mean))
        self.moving_square.assign(keep * self.moving_square + (1 - keep) * tf.stop_gradient(square))
        self.moving_weight.assign(keep * self.moving_weight + (1 - keep))


def _rows(s: tf.Tensor, valid: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
    """[..., C] as [R, C], and [R, 1] float32, 1 where a row counts."""
    flat = tf.reshape(s, [-1, s.shape[-1]])
    return flat, tf.ones_like(flat[:, :1]) if valid is None else tf.reshape(tf.cast(valid, tf.float32), [-1, 1])


def _in_few_passes(
    s: tf.Tensor, slope: tf.Tensor, weight: tf.Tensor, epsilon: float
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Dice with the batch's statistics, and with a gradient of its own, for a CPU.

    Each operation on [R, C] is a pass over memory there. The gradient that TensorFlow derives from the plain formula
    takes more than twice as many as this one, in which the statistics have a part by few sums a channel; a sum is a
    product with a vector, weights included. The logistic function is (1 + tanh(z / 2)) / 2, at half the cost.

    Args:
      s: [R, C] float32.
      slope: [C].
      weight: [R, 1], 1 where a row counts in the statistics and 0 where not.
      epsilon: added to the variance.

    Returns:
      y [R, C], and E[s] and E[s^2], both [C] and without a gradient.
    """

    def sums(x: tf.Tensor, of: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(tf.matmul(of, x, transpose_a=True), axis=0)

    @tf.custom_gradient
    def dice(
        s: tf.Tensor, slope: tf.Tensor
    ) -> tuple[tuple[tf.Tensor, tf.Tensor, tf.Tensor], Callable[..., tuple[tf.Tensor, tf.Tensor]]]:
        count = tf.maximum(tf.reduce_sum(weight), 1.0)
        mean, square = sums(s, weight) / count, sums(tf.square(s), weight) / count
        spread = square - tf.square(mean)
        half = 0.5 * tf.math.rsqrt(tf.maximum(spread, 0.0) + epsilon)
        tanh = tf.tanh(s * half - mean * half)
        # slope + p * (1 - slope)
        bend = 0.5 * (1.0 - slope)
        gate = tanh * bend + (1.0 - bend)

        def gradient(dy: tf.Tensor, *_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            # z = (s - mean) * half; below, ``of_z`` lacks the factor ``bend``, which is one a channel.
            of_product = dy * s
            of_z = tf.raw_ops.TanhGrad(y=tanh, dy=of_product)
            every = tf.ones_like(weight)
            of_slope = 0.5 * (sums(of_product, every) - sums(of_product * tanh, every))
            total = bend * sums(of_z, every)
            of_half = bend * sums(of_z * s, every) - mean * total
            of_square = tf.where(spread >= 0.0, -2.0 * of_half * half**3, 0.0)
            of_mean = -half * total - 2.0 * mean * of_square
            of_statistics = s * (2.0 * of_square / count) + of_mean / count
            return tf.add_n([dy * gate, of_z * (bend * half), of_statistics * weight]), of_slope

        return (s * gate, mean, square), gradient

    outputs: tuple[tf.Tensor, tf.Tensor, tf.Tensor] = dice(s, slope)
    return outputs


def make_activation(config: ModelConfig) -> keras.layers.Layer:
    """A new layer of a model's activation; each place of use needs its own, since PReLU and Dice have weights.

    Raises:
      RegistrationError: if what was declared is not there or no layer.
    """
    sections = ACTIVATIONS[config.activation].reads.values()
    return ACTIVATIONS.build(config.activation, **{k: v for kind in sections for k, v in config.section(kind)})
