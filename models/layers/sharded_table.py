"""Tables of which each device holds a part of the rows."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from ctr.models.arrays import Array

_SHARDED: contextvars.ContextVar[bool] = contextvars.ContextVar("sharded", default=False)


@contextlib.contextmanager
def sharded_tables(sharded: bool = True) -> Iterator[None]:
    """Item tables of models that are built in the block are of :class:`ShardedTable`."""
    token = _SHARDED.set(sharded)
    try:
        yield
    finally:
        _SHARDED.reset(token)


def is_sharded() -> bool:
    """Whether a table that is created here is to be sharded."""
    return _SHARDED.get()


class ShardedTable:
    """Row r lies on device r % n of the strategy's n, as row r // n there.

    Indices follow frequency, so that each device has as many of the frequent rows as any other. A look-up asks each
    device for its rows, and the gradient goes back to it the same way. Create it in the scope of a strategy of one
    process. It is no variable of the layer that holds it: whoever trains passes ``shards`` to an optimizer and to
    checkpoints, and whoever exports copies the rows into a table that is whole.

    Args:
      rows: of the whole table.
      columns: likewise.
      initializer: shape -> the first values of the whole table, on the host.
      name: of the variables.

    Attributes:
      shards: a variable a device, [ceil(rows / n), columns] float32; where rows are no multiple of n, the last row of
        some is of no use.
    """

    def __init__(self, rows: int, columns: int, initializer: Callable[..., tf.Tensor], name: str) -> None:
        self.rows = rows
        strategy = tf.distribute.get_strategy()
        devices = strategy.num_replicas_in_sync
        each = -(-rows // devices)
        # A variable a device, which nothing keeps equal.
        held = tf.Variable(
            lambda: tf.zeros([each, columns]),
            trainable=True,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
            name=name,
        )
        self.shards: tuple[tf.Variable, ...] = strategy.experimental_local_results(held)
        with tf.device("CPU:0"):
            self.assign(initializer((rows, columns), dtype="float32"))

    def assign(self, values: tf.Tensor | Array) -> None:
        """Of the whole table, [rows, columns]."""
        number = len(self.shards)
        padded = tf.pad(values, [[0, self.shards[0].shape[0] * number - self.rows], [0, 0]])
        for first, shard in enumerate(self.shards):
            shard.assign(padded[first::number])

    def numpy(self) -> Array:
        """[rows, columns] of the whole table, in the host's memory."""
        columns = self.shards[0].shape[1]
        together: Array = tf.stack([shard.numpy() for shard in self.shards], axis=1).numpy()
        return together.reshape(-1, columns)[: self.rows]

    def look_up(self, index: tf.Tensor) -> tf.Tensor:
        """[..., columns] of [...] int64 rows."""
        return tf.compat.v1.nn.embedding_lookup(list(self.shards), index, partition_strategy="mod")
