"""Batches whose activations do not fit in memory at once."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ctr.components.trainer.step import Batch, ReplicaStep
from ctr.models.optimizers import Gradient


class AccumulatingStep(ReplicaStep):
    """Passes a batch through the model in parts and adds up their gradients, each by its share of what is real.

    A replica's share of a batch need not be a multiple of the parts, and may have fewer impressions than there are
    parts: it is filled with padding, so that every part has equally many rows, and at least one.

    The sum is the gradient of the mean over the whole batch; of auxiliary losses, too, where each part has as many
    pairs an impression as the others. What looks at a batch sees a part: Dice's statistics, a model's draws, and a
    sampler's. A table's gradient stays the rows that it is of, those of all parts one behind the other.

    Args:
      parts: how many; the rest as :class:`ReplicaStep`.
    """

    def __init__(self, parts: int, *args: Any) -> None:
        super().__init__(*args)
        self.parts = parts

    def gradients(self, batch: Batch) -> tuple[list[Gradient | None], tf.Tensor]:
        """As of :class:`ReplicaStep`."""
        batch, size = _filled(batch, self.parts)
        found: list[list[Gradient | None]] = []
        sums: list[tf.Tensor] = []
        for number in range(self.parts):
            part = tf.nest.map_structure(lambda x, first=number * size: x[first : first + size], batch)
            # One after the other: a graph would else run all forward passes first, and keep their activations.
            with tf.control_dependencies(sums[-1:] + [g for g in tf.nest.flatten(found[-1:]) if g is not None]):
                part = tf.nest.map_structure(tf.identity, part)
                gradients, of_part = super().gradients(part)
            found.append(gradients)
            sums.append(of_part)
        context = tf.distribute.get_replica_context()
        counts = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stack([of_part[1] for of_part in sums]))
        shares = tf.unstack(counts / tf.maximum(tf.reduce_sum(counts), 1.0))
        return [_total(gradients, shares) for gradients in zip(*found, strict=True)], tf.add_n(sums)


def _filled(batch: Batch, parts: int) -> tuple[Batch, int | tf.Tensor]:
    """The batch with as much padding behind it as makes all parts equally large, and how large."""
    first = tf.nest.flatten(batch)[0]
    rows = first.shape[0]
    if rows is None:
        rows = tf.shape(first)[0]
        size = tf.maximum(-(-rows // parts), 1)
    else:
        size = max(-(-rows // parts), 1)
    missing = size * parts - rows
    return tf.nest.map_structure(lambda x: tf.pad(x, [[0, missing]] + [[0, 0]] * (x.shape.rank - 1)), batch), size


def _total(gradients: tuple[Gradient | None, ...], shares: list[tf.Tensor]) -> Gradient | None:
    parts = [_scaled(part, share) for part, share in zip(gradients, shares, strict=True) if part is not None]
    if not parts:
        return None
    if not isinstance(parts[0], tf.IndexedSlices):
        return tf.add_n(parts)
    values, indices = (tf.concat([getattr(part, name) for part in parts], axis=0) for name in ("values", "indices"))
    return tf.IndexedSlices(values, indices, parts[0].dense_shape)


def _scaled(gradient: Gradient, share: tf.Tensor) -> Gradient:
    share = tf.cast(share, gradient.dtype)
    if isinstance(gradient, tf.IndexedSlices):
        return tf.IndexedSlices(gradient.values * share, gradient.indices, gradient.dense_shape)
    return gradient * share
