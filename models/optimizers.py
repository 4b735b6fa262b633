"""Optimizers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

import keras
import tensorflow as tf

from ctr.models.compiled import is_compiled

Gradient: TypeAlias = "tf.Tensor | tf.IndexedSlices"

BETA_1: Final = 0.9
BETA_2: Final = 0.999
EPSILON: Final = 1e-7
_FEW_ROWS: Final = 64
"""Of a table, behaviours' or ages' for one: so few that XLA compares every lookup with every row."""


class Step(NamedTuple):
    """Scalars that the updates of one step have in common, float32."""

    beta_1_power: tf.Tensor
    beta_2_power: tf.Tensor
    rate: tf.Tensor
    """The learning rate times sqrt(1 - beta_2^t) / (1 - beta_1^t), which the fused kernel computes for itself."""


class LazyAdam:
    """Adam that touches only the embedding rows that occur in the batch.

    A dense gradient gets the update of Kingma and Ba 2015, Algorithm 1 (arXiv 1412.6980). For a sparse
    gradient the moments and the weights of the rows in it are updated by the same formulas and all other
    rows stay as they are: a step costs what the batch holds, not what the vocabulary holds. Rows are
    regularised the same way, by decoupled decay (Loshchilov and Hutter 2019) when they are touched, which
    is the mini-batch aware regularisation of DIN (arXiv 1706.06978, section 5.1) in decoupled form.

    Keras' own Adam takes 24 operations a dense variable, most of them on a few numbers; here it is one, TensorFlow's
    fused kernel. Create it and call :meth:`build` in the strategy's scope.

    Args:
      learning_rate: step size.
      row_decay: the share learning_rate * row_decay is taken off each touched row at each step.
    """

    def __init__(self, learning_rate: float = 1e-3, row_decay: float = 0.0) -> None:
        self.learning_rate = learning_rate
        self.row_decay = row_decay

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the count of steps, and two moments a variable, all 0."""
        self.iterations = _state((), "int64", "iterations", "only_first_replica")
        self._moments = {
            id(variable): tuple(_state(variable.shape, "float32", name) for name in ("momentum", "velocity"))
            for variable in variables
        }

    @property
    def variables(self) -> list[keras.Variable]:
        """All that a checkpoint has to hold."""
        return [self.iterations, *(moment for both in self._moments.values() for moment in both)]

    def next_step(self) -> Step:
        """What the updates of the step that :meth:`apply` is about to do have in common."""
        number = tf.cast(self.iterations.value + 1, tf.float32)
        powers = tf.pow([BETA_1, BETA_2], number)
        corrections = 1.0 - powers
        return Step(powers[0], powers[1], self.learning_rate * tf.sqrt(corrections[1]) / corrections[0])

    def apply(self, gradients: Sequence[Gradient | None], variables: Sequence[keras.Variable]) -> None:
        """Updates variables by the sum of all replicas' gradients; in a replica's context, once a step.

        Args:
          gradients: this replica's own; a variable whose gradient is None stays as it is.
          variables: one a gradient, of those it was built for.
        """
        pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
        context = tf.distribute.get_replica_context()
        reduced = [gradient for gradient, _ in pairs]
        if context.num_replicas_in_sync > 1:
            reduced = _summed(reduced, context)
        step = self.next_step()

        def update(strategy: tf.distribute.Strategy, reduced: list[Gradient], step: Step) -> None:
            for gradient, (own, variable) in zip(reduced, pairs, strict=True):
                sparse = isinstance(own, tf.IndexedSlices)
                first, second = (moment.value for moment in self._moments[id(variable)])
                strategy.extended.update(
                    variable.value,
                    self.update_rows if sparse else self._update_whole,
                    args=(first, second, gradient, step),
                    group=False,
                )

        context.merge_call(update, args=(reduced, step))
        self.iterations.value.assign_add(1)

    def _update_whole(
        self, variable: tf.Variable, first: tf.Variable, second: tf.Variable, gradient: tf.Tensor, step: Step
    ) -> None:
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=first.handle,
            v=second.handle,
            beta1_power=step.beta_1_power,
            beta2_power=step.beta_2_power,
            lr=self.learning_rate,
            beta1=BETA_1,
            beta2=BETA_2,
            epsilon=EPSILON,
            grad=gradient,
        )

    def update_rows(
        self,
        variable: tf.Variable,
        first: tf.Variable,
        second: tf.Variable,
        gradient: tf.IndexedSlices,
        step: Step,
    ) -> None:
        """Updates the rows that a gradient is of, and their two moments, which lie as the variable does.

        The gradients of all lookups of a row are summed. Where the table has no more rows than were looked up, each row
        has a sum, and a mask says which were looked up. Of a larger one the rows are listed, each once; compiled, where
        nobody knows how long that list is, each lookup computes the same update of its row.
        """
        values, indices = gradient.values, gradient.indices
        rows, lookups = variable.shape[0], values.shape[0]
        # Both known, and fewer rows than were looked up: behaviours, ages, categories, or all items of a small shop.
        if lookups is not None and rows <= lookups:
            touched, total = (_of_rows_compiled if is_compiled() else _of_rows)(values, indices, rows)
            touched = tf.reshape(touched, [rows] + [1] * (variable.shape.rank - 1))
            new = self._updated(variable.read_value(), first.read_value(), second.read_value(), total, step)
            for local, value in zip((variable, first, second), new, strict=True):
                local.assign(tf.where(touched, value, local.read_value()))
            return
        if is_compiled():
            total = _of_lookups(values, indices, rows)
        else:
            indices, places = tf.unique(indices)
            total = tf.math.unsorted_segment_sum(values, places, tf.size(indices))
        weight, m, v = (tf.gather(local, indices) for local in (variable, first, second))
        for local, value in zip((variable, first, second), self._updated(weight, m, v, total, step), strict=True):
            local.scatter_update(tf.IndexedSlices(value, indices))

    def _updated(
        self, weight: tf.Tensor, first: tf.Tensor, second: tf.Tensor, gradient: tf.Tensor, step: Step
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        first = BETA_1 * first + (1.0 - BETA_1) * gradient
        second = BETA_2 * second + (1.0 - BETA_2) * tf.square(gradient)
        change = step.rate * first / (tf.sqrt(second) + EPSILON)
        if self.row_decay:
            change += self.learning_rate * self.row_decay * weight
        return weight - change, first, second


def _of_rows(values: tf.Tensor, indices: tf.Tensor, rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Of a gradient's lookups [K, ...] and their rows [K]: whether a row was looked up [rows], and its gradient."""
    times = tf.math.unsorted_segment_sum(tf.ones_like(indices, tf.float32), indices, rows)
    return times > 0, tf.math.unsorted_segment_sum(values, indices, rows)


def _of_rows_compiled(values: tf.Tensor, indices: tf.Tensor, rows: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As :func:`_of_rows`. A GPU's additions to one place wait for each other: few rows take none, and lookups whose
    gradients are 0 are left out."""
    if rows <= _FEW_ROWS:
        shape = [rows] + [1] * (values.shape.rank - 1)
        member = indices[None, :] == tf.range(rows, dtype=indices.dtype)[:, None]
        # XLA makes one kernel of it, and nothing of this size is in memory.
        return tf.reduce_any(member, axis=1), tf.reduce_sum(
            tf.where(tf.reshape(member, [rows, -1, *shape[1:]]), values[None], 0.0), axis=1
        )
    touched = tf.tensor_scatter_nd_update(tf.zeros([rows]), indices[:, None], tf.ones_like(indices, tf.float32))
    total = tf.math.unsorted_segment_sum(values, tf.where(_is_something(values), indices, -1), rows)
    return touched > 0, total


def _of_lookups(values: tf.Tensor, indices: tf.Tensor, rows: int) -> tf.Tensor:
    """[K, ...] the gradient of each lookup's row, K lookups and their rows given.

    All lookups of a row have a common place, that of the last one, where their gradients are summed.
    """
    size = tf.size(indices)
    something = _is_something(values)
    last = tf.math.unsorted_segment_max(tf.range(size), tf.where(something, indices, -1), rows)
    place = tf.gather(last, indices)
    summed = tf.math.unsorted_segment_sum(values, tf.where(something, place, -1), size)
    # A row whose gradients are all 0 has no place.
    has_place = tf.reshape(place >= 0, [-1] + [1] * (values.shape.rank - 1))
    return tf.where(has_place, tf.gather(summed, tf.maximum(place, 0)), 0.0)


def _is_something(values: tf.Tensor) -> tf.Tensor:
    """[K] whether a lookup's gradient is not all 0: that of padding is, half of all lookups, and all of one row."""
    return tf.reduce_any(tf.reshape(values != 0, [tf.shape(values)[0], -1]), axis=1)


def _state(shape: Sequence[int], dtype: str, name: str, aggregation: str = "none") -> keras.Variable:
    # As keras.optimizers makes them, so that replicas write each their own copy.
    return keras.Variable(
        lambda shape, dtype: tf.zeros(shape, dtype),
        shape=shape,
        dtype=dtype,
        trainable=False,
        autocast=False,
        aggregation=aggregation,
        name=name,
    )


def _summed(gradients: Sequence[Gradient], context: tf.distribute.ReplicaContext) -> list[Gradient]:
    """Over all replicas; the dense ones as one vector, since each reduction has its own latency."""
    dense = [gradient for gradient in gradients if not isinstance(gradient, tf.IndexedSlices)]
    flat = tf.concat([tf.reshape(gradient, [-1]) for gradient in dense], axis=0)
    sparse = [gradient for gradient in gradients if isinstance(gradient, tf.IndexedSlices)]
    flat, *rows = context.all_reduce(tf.distribute.ReduceOp.SUM, [flat, *sparse])
    parts = iter(tf.split(flat, [gradient.shape.num_elements() for gradient in dense]))
    rest = iter(rows)
    return [
        next(rest) if isinstance(gradient, tf.IndexedSlices) else tf.reshape(next(parts), gradient.shape)
        for gradient in gradients
    ]
