"""Dynamic loss scaling for float16."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

import tensorflow as tf

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"

FIRST_SCALE: Final = 2.0**15
LARGEST_SCALE: Final = 2.0**24
STEPS_TO_DOUBLE: Final = 2000


class DynamicLossScale(tf.Module):
    """Keeps float16 gradients off its limits (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).

    The loss is multiplied by a scale and the gradients are divided by it. Where a gradient of any replica is not
    finite, all gradients of the step count as 0 (moments decay, and weights move by momentum alone) and the scale
    is halved; after ``STEPS_TO_DOUBLE`` finite steps it is doubled. Create it in the strategy's scope.
    """

    def __init__(self) -> None:
        super().__init__()
        alike = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.scale = tf.Variable(FIRST_SCALE, name="loss_scale", **alike)
        self.finite_steps = tf.Variable(0, name="finite_steps", **alike)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to take the gradients of."""
        return loss * self.scale

    def unscale(self, gradients: Sequence[Gradient | None]) -> list[Gradient | None]:
        """The gradients of the loss itself, or zeros; in a replica's context, once a step."""
        parts = [_values(gradient) for gradient in gradients if gradient is not None]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(part)) for part in parts])
        context = tf.distribute.get_replica_context()
        replicas_finite = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(finite, tf.float32))
        finite = replicas_finite == tf.cast(context.num_replicas_in_sync, tf.float32)
        scale = tf.convert_to_tensor(self.scale)
        result = [_unscaled(gradient, scale, finite) for gradient in gradients]
        steps = tf.where(finite, self.finite_steps + 1, 0)
        double = steps == STEPS_TO_DOUBLE
        grown = tf.where(double, tf.minimum(scale * 2.0, LARGEST_SCALE), scale)
        self.scale.assign(tf.where(finite, grown, tf.maximum(scale / 2.0, 1.0)))
        self.finite_steps.assign(tf.where(double, 0, steps))
        return result


def _values(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _unscaled(gradient: Gradient | None, scale: tf.Tensor, finite: tf.Tensor) -> Gradient | None:
    if gradient is None:
        return None
    values = tf.where(finite, _values(gradient) / tf.cast(scale, gradient.dtype), 0)
    if isinstance(gradient, tf.IndexedSlices):
        # Not densified: a table's gradient has the rows of the batch alone.
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
