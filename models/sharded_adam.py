"""The optimizer of tables of which each device holds a part."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from ctr.models.optimizers import Gradient, LazyAdam, Step


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
        context = tf.distribute.get_replica_context()
        context.merge_call(self._update_shards, args=(list(gradients[-count:]), self._others.next_step()))
        self._others.apply(gradients[:-count], variables[:-count])

    def _update_shards(self, strategy: tf.distribute.Strategy, gradients: list[Gradient], step: Step) -> None:
        of_first = Step(*(strategy.experimental_local_results(value)[0] for value in step))
        for shard, (first, second), gradient in zip(self._shards, self.moments, gradients, strict=True):
            parts = strategy.experimental_local_results(gradient)
            with tf.device(shard.device):
                values, indices = (
                    tf.concat([getattr(part, name) for part in parts], axis=0) for name in ("values", "indices")
                )
                self._others.update_rows(shard, first, second, tf.IndexedSlices(values, indices), of_first)
