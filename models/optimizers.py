"""Optimizers."""

from __future__ import annotations

import keras
import tensorflow as tf


class LazyAdam(keras.optimizers.Adam):
    """Adam that touches only the embedding rows that occur in the batch.

    A dense gradient gets the update of Kingma and Ba 2015, Algorithm 1 (arXiv 1412.6980). For a sparse
    gradient the moments and the weights of the rows in it are updated by the same formulas and all other
    rows stay as they are: a step costs what the batch holds, not what the vocabulary holds. Rows are
    regularised the same way, by decoupled decay (Loshchilov and Hutter 2019) when they are touched, which
    is the mini-batch aware regularisation of DIN (arXiv 1706.06978, section 5.1) in decoupled form.

    Args:
      learning_rate: step size.
      row_decay: the share learning_rate * row_decay is taken off each touched row at each step.
    """

    def __init__(self, learning_rate: float = 1e-3, row_decay: float = 0.0) -> None:
        super().__init__(learning_rate=learning_rate)
        self.row_decay = row_decay

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Applies one gradient to one variable; see the class docstring."""
        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        m, v = self._momentums[index].value, self._velocities[index].value
        rows, position = tf.unique(gradient.indices)
        gradient = tf.math.unsorted_segment_sum(gradient.values, position, tf.size(rows))

        step = tf.cast(self.iterations.value + 1, variable.dtype)
        rate = tf.cast(learning_rate, variable.dtype)
        rate_of_step = rate * tf.sqrt(1.0 - self.beta_2**step) / (1.0 - self.beta_1**step)
        m_rows = self.beta_1 * tf.gather(m, rows) + (1.0 - self.beta_1) * gradient
        v_rows = self.beta_2 * tf.gather(v, rows) + (1.0 - self.beta_2) * tf.square(gradient)
        update = rate_of_step * m_rows / (tf.sqrt(v_rows) + self.epsilon)
        if self.row_decay:
            update += rate * self.row_decay * tf.gather(variable, rows)
        m.scatter_update(tf.IndexedSlices(m_rows, rows))
        v.scatter_update(tf.IndexedSlices(v_rows, rows))
        variable.scatter_sub(tf.IndexedSlices(update, rows))
