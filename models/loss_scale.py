"""Dynamic loss scaling for float16.

Keras' ``LossScaleOptimizer`` (of 3.12 and of 3.15) is not used: it makes a table's sparse gradient dense to look at it,
and with several replicas it asks the first one alone, whose own gradients it has not yet added to those of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import keras
import tensorflow as tf

from ctr.models.optimizers import Gradient, LazyAdam
from ctr.models.sharded_adam import ShardedAdam

FIRST_SCALE: Final = 2.0**15
SMALLEST_SCALE: Final = 1.0
LARGEST_SCALE: Final = 2.0**24
STEPS_TO_DOUBLE: Final = 2000


class DynamicLossScale(tf.Module):
    """Keeps float16 gradients off its limits (Micikevicius et al. 2018, arXiv 1710.03740, section 3.2).

    The loss is multiplied by a scale and the gradients are divided by it. Where a gradient of any replica is not
    finite, no replica updates anything (weights, moments and the optimizer's count of steps stay as they are), and the
    scale is halved; after ``STEPS_TO_DOUBLE`` finite steps it is doubled. What has seen the batch by then, the
    statistics of Dice and the arrays of a sampler, has seen it. Create it in the strategy's scope.
    """

    def __init__(self) -> None:
        super().__init__()
        alike = {"trainable": False, "aggregation": tf.VariableAggregation.ONLY_FIRST_REPLICA}
        self.scale = tf.Variable(FIRST_SCALE, name="loss_scale", **alike)
        self.finite_steps = tf.Variable(0, name="finite_steps", **alike)

    def scaled(self, loss: tf.Tensor) -> tf.Tensor:
        """The loss to take the gradients of."""
        return loss * self.scale

    def apply(
        self,
        optimizer: LazyAdam | ShardedAdam,
        gradients: Sequence[Gradient | None],
        variables: Sequence[keras.Variable],
    ) -> tf.Tensor:
        """Updates the variables, or skips the step; in a replica's context, once a step.

        Args:
          optimizer: built for the variables.
          gradients: of the scaled loss, this replica's own.
          variables: one a gradient.

        Returns:
          Scalar bool: true where the step was skipped with the smallest scale there is.
        """
        scale = tf.identity(self.scale)
        finite = _finite_everywhere(gradients)
        unscaled = [_divided(gradient, scale) for gradient in gradients]

        def update(strategy: tf.distribute.Strategy, flags: tf.Tensor, parts: list[Gradient | None]) -> None:
            def all_replicas() -> None:
                strategy.extended.call_for_each_replica(optimizer.apply, args=(parts, variables))

            # Here, because a branch inside a replica could not merge the replicas' gradients.
            tf.cond(strategy.experimental_local_results(flags)[0], all_replicas, lambda: None)

        tf.distribute.get_replica_context().merge_call(update, args=(finite, unscaled))
        steps = tf.where(finite, self.finite_steps + 1, 0)
        double = steps == STEPS_TO_DOUBLE
        grown = tf.where(double, tf.minimum(scale * 2.0, LARGEST_SCALE), scale)
        self.scale.assign(tf.where(finite, grown, tf.maximum(scale / 2.0, SMALLEST_SCALE)))
        self.finite_steps.assign(tf.where(double, 0, steps))
        return ~finite & (scale <= SMALLEST_SCALE)


def _finite_everywhere(gradients: Sequence[Gradient | None]) -> tf.Tensor:
    parts = [_values(gradient) for gradient in gradients if gradient is not None]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(part)) for part in parts])
    context = tf.distribute.get_replica_context()
    replicas_finite = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.cast(finite, tf.float32))
    return replicas_finite == tf.cast(context.num_replicas_in_sync, tf.float32)


def _values(gradient: Gradient) -> tf.Tensor:
    return gradient.values if isinstance(gradient, tf.IndexedSlices) else gradient


def _divided(gradient: Gradient | None, scale: tf.Tensor) -> Gradient | None:
    if gradient is None:
        return None
    values = _values(gradient) / tf.cast(scale, gradient.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        # Not densified: a table's gradient has the rows of the batch alone.
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return values
