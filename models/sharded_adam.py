"""The optimizer of tables of which each device holds a part."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ctr.models.loss_scale import Gradient
from ctr.models.optimizers import LazyAdam

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7


class ShardedAdam:
    """:class:`ctr.models.optimizers.LazyAdam` for shards behind the other variables.

    All replicas' gradients of a shard come together on its device, which alone updates it, by the formulas of LazyAdam;
    its moments lie there, too. The other variables are LazyAdam's.

    Args:
      others: built for the other variables.
      shards: of :class:`ctr.models.layers.sharded_table.ShardedTable`.
    """

    def __init__(self, others: LazyAdam, shards: Sequence[tf.Variable]) -> None:
        self._others = others
        self._shards = shards
        self.moments = []
        for shard in shards:
            with tf.device(shard.device):
                self.moments.append([tf.Variable(tf.zeros(shard.shape), trainable=False) for _ in range(2)])

    @property
    def variables(self) -> list[keras.Variable]:
        """Those of the other variables; the moments of shards are in ``moments``."""
        variables: list[keras.Variable] = self._others.variables
        return variables

    def apply(self, gradients: Sequence[Gradient | None], variables: Sequence[keras.Variable | tf.Variable]) -> None:
        """Updates the variables, of which the shards come last; in a replica's context, once a step."""
        count = len(self._shards)
        step = tf.cast(tf.convert_to_tensor(self._others.iterations) + 1, tf.float32)
        tf.distribute.get_replica_context().merge_call(self._update_shards, args=(list(gradients[-count:]), step))
        self._others.apply(gradients[:-count], variables[:-count])

    def _update_shards(self, strategy: tf.distribute.Strategy, gradients: list[Gradient], step: tf.Tensor) -> None:
        step = strategy.experimental_local_results(step)[0]
        for shard, (first, second), gradient in zip(self._shards, self.moments, gradients, strict=True):
            parts = strategy.experimental_local_results(gradient)
            with tf.device(shard.device):
                indices = tf.concat([part.indices for part in parts], axis=0)
                values = tf.concat([part.values for part in parts], axis=0)
                self._update(shard, first, second, tf.IndexedSlices(values, indices), step)

    def _update(
        self, shard: tf.Variable, first: tf.Variable, second: tf.Variable, gradient: tf.IndexedSlices, step: tf.Tensor
    ) -> None:
        rows, place = tf.unique(gradient.indices)
        total = tf.math.unsorted_segment_sum(gradient.values, place, tf.size(rows))
        rate = tf.convert_to_tensor(self._others.learning_rate, tf.float32)
        m = _BETA_1 * tf.gather(first, rows) + (1.0 - _BETA_1) * total
        v = _BETA_2 * tf.gather(second, rows) + (1.0 - _BETA_2) * tf.square(total)
        change = rate * tf.sqrt(1.0 - _BETA_2**step) / (1.0 - _BETA_1**step) * m / (tf.sqrt(v) + _EPSILON)
        if self._others.row_decay:
            change += rate * self._others.row_decay * tf.gather(shard, rows)
        first.scatter_update(tf.IndexedSlices(m, rows))
        second.scatter_update(tf.IndexedSlices(v, rows))
        shard.scatter_sub(tf.IndexedSlices(change, rows))
