from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr.models.loss_scale import FIRST_SCALE, SMALLEST_SCALE, STEPS_TO_DOUBLE, DynamicLossScale
from ctr.models.optimizers import LazyAdam


class Training:
    """A dense weight and a table, after a step that gave them moments."""

    def __init__(self) -> None:
        self.scale = DynamicLossScale()
        self.variables = [keras.Variable(np.ones(2, "float32")), keras.Variable(np.ones((6, 3), "float32"))]
        self.optimizer = LazyAdam(0.1, row_decay=0.1)
        self.optimizer.build(self.variables)
        self.apply(0.25)

    def apply(self, value: float, wrong: float | None = None) -> bool:
        """One step with gradients of ``value``, one number of the table's being ``wrong``."""
        scaled = value * float(self.scale.scale.numpy())
        values = np.full((2, 3), scaled, "float32")
        if wrong is not None:
            values[1, 2] = wrong
        rows = tf.IndexedSlices(tf.constant(values), tf.constant([4, 1]), tf.constant([6, 3]))
        return bool(self.scale.apply(self.optimizer, [tf.fill([2], scaled), rows], self.variables))

    def state(self) -> list[np.ndarray]:
        return [np.asarray(variable) for variable in [*self.variables, *self.optimizer.variables]]


def test_finite_gradients_move_what_the_unscaled_loss_would_move() -> None:
    training = Training()
    np.testing.assert_allclose(training.scale.scaled(tf.constant(0.5)), 0.5 * FIRST_SCALE)
    expected = [keras.Variable(np.ones(2, "float32")), keras.Variable(np.ones((6, 3), "float32"))]
    rows = tf.IndexedSlices(tf.fill([2, 3], 0.25), tf.constant([4, 1]), tf.constant([6, 3]))
    optimizer = LazyAdam(0.1, row_decay=0.1)
    optimizer.build(expected)
    optimizer.apply([tf.fill([2], 0.25), rows], expected)
    for ours, theirs in zip(training.variables, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6)
    # Sparse still: the other rows have not been touched.
    np.testing.assert_array_equal(training.variables[1].numpy()[[0, 2, 3, 5]], 1.0)


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
def test_an_overflow_anywhere_changes_nothing_but_the_scale(wrong: float) -> None:
    training = Training()
    before = training.state()
    assert not training.apply(1.0, wrong)
    for old, new in zip(before, training.state(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert training.scale.scale.numpy() == FIRST_SCALE / 2
    training.apply(1.0)
    assert all((old != new).any() for old, new in zip(before[:2], training.state()[:2], strict=True))


def test_the_scale_doubles_after_enough_finite_steps_and_an_overflow_starts_the_count_anew() -> None:
    training = Training()
    training.scale.finite_steps.assign(STEPS_TO_DOUBLE - 1)
    training.apply(1.0, np.inf)
    for _ in range(3):
        training.apply(1.0)
    assert training.scale.scale.numpy() == FIRST_SCALE / 2
    training.scale.finite_steps.assign(STEPS_TO_DOUBLE - 1)
    training.apply(1.0)
    assert training.scale.scale.numpy() == FIRST_SCALE
    assert training.scale.finite_steps.numpy() == 0


def test_an_overflow_with_the_smallest_scale_is_told() -> None:
    training = Training()
    training.scale.scale.assign(2 * SMALLEST_SCALE)
    assert not training.apply(1.0, np.inf)
    assert training.apply(1.0, np.inf)
    assert training.scale.scale.numpy() == SMALLEST_SCALE
    assert not training.apply(1.0)
