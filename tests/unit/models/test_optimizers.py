from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr.models.compiled import compiled
from ctr.models.optimizers import Gradient, LazyAdam

ROWS = 6


def slices(rows: list[int], values: np.ndarray) -> tf.IndexedSlices:
    shape = tf.constant([ROWS, *values.shape[1:]], tf.int64)
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows, tf.int64), shape)


class Plain:
    """The optimizer as it is traced without XLA."""

    def __init__(self, start: Sequence[np.ndarray], learning_rate: float = 0.1, row_decay: float = 0.0) -> None:
        self.variables = [keras.Variable(value.astype("float32")) for value in start]
        self.optimizer = LazyAdam(learning_rate, row_decay)
        self.optimizer.build(self.variables)
        self.apply = self.traced()

    def traced(self) -> Any:
        return tf.function(lambda gradients: self.optimizer.apply(gradients, self.variables), reduce_retracing=True)

    def values(self) -> list[np.ndarray]:
        return [variable.numpy() for variable in self.variables]


class Compiled(Plain):
    """With it."""

    def traced(self) -> Any:
        def apply(gradients: list[Gradient]) -> None:
            with compiled():
                self.optimizer.apply(gradients, self.variables)

        return tf.function(apply, jit_compile=True)


KINDS = pytest.mark.parametrize("kind", [Plain, Compiled])


def oracle(
    weight: np.ndarray,
    gradients: Sequence[np.ndarray],
    touched: Sequence[np.ndarray | slice],
    rate: float,
    decay: float,
) -> np.ndarray:
    """Kingma and Ba's Algorithm 1 in float64, in the form with the rate corrected, on the rows that are touched."""
    weight, m, v = weight.astype(float), np.zeros(weight.shape), np.zeros(weight.shape)
    for t, (g, rows) in enumerate(zip(gradients, touched, strict=True), start=1):
        m[rows] = 0.9 * m[rows] + 0.1 * g[rows]
        v[rows] = 0.999 * v[rows] + 0.001 * g[rows] ** 2
        step = rate * np.sqrt(1 - 0.999**t) / (1 - 0.9**t) * m[rows] / (np.sqrt(v[rows]) + 1e-7)
        weight[rows] -= step + rate * decay * weight[rows]
    return weight


# The table has 6 rows: of fewer lookups only those rows are read, of more the whole table is.
@KINDS
@pytest.mark.parametrize("lookups", [4, 9])
def test_all_variables_of_a_step_against_numpy(kind: type[Plain], lookups: int) -> None:
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape) for shape in ((3, 4), (5,), (ROWS, 2), (ROWS,))]
    training = kind(start, row_decay=0.3)
    dense: list[list[np.ndarray]] = [[], []]
    tables: list[list[np.ndarray]] = [[], []]
    touched: list[np.ndarray] = []
    for _ in range(4):
        rows = rng.integers(0, ROWS, lookups)
        touched.append(np.unique(rows))
        gradients: list[Gradient] = []
        for value, kept in zip(start, dense, strict=False):
            kept.append(rng.normal(size=value.shape))
            gradients.append(tf.constant(kept[-1], tf.float32))
        for value, kept in zip(start[2:], tables, strict=True):
            each = rng.normal(size=(lookups, *value.shape[1:]))
            kept.append(np.zeros(value.shape))
            np.add.at(kept[-1], rows, each)
            gradients.append(slices(rows.tolist(), each))
        training.apply(gradients)
    expected = [oracle(value, given, [slice(None)] * 4, 0.1, 0.0) for value, given in zip(start, dense, strict=False)]
    expected += [oracle(v, g, touched, 0.1, 0.3) for v, g in zip(start[2:], tables, strict=True)]
    for ours, theirs in zip(training.values(), expected, strict=True):
        # 1 - 0.999^t has four digits in float32, in Keras' Adam as well.
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert int(training.optimizer.iterations.numpy()) == 4


# Of few rows, which are summed by comparison; of some, with more lookups than rows; of more rows than lookups.
@pytest.mark.parametrize("rows", [60, 80, 300])
def test_compiled_a_table_is_updated_as_without(rows: int) -> None:
    rng = np.random.default_rng(rows)
    start = rng.normal(size=(rows, 3))
    found = []
    for kind in (Plain, Compiled):
        draw = np.random.default_rng(1)
        training = kind([start], row_decay=0.3)
        for _ in range(3):
            looked_up = np.minimum(draw.geometric(0.05, 200), rows) - 1
            values = draw.normal(size=(200, 3))
            # As of padding: half of the lookups, all of a row, which is touched nevertheless.
            values[:90], looked_up[:90] = 0.0, 0
            looked_up[90:] = np.maximum(looked_up[90:], 1)
            shape = tf.constant([rows, 3], tf.int64)
            training.apply([tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(looked_up), shape)])
        found.append(training.values()[0])
    np.testing.assert_allclose(found[1], found[0], atol=1e-6)
    assert (found[1][0] != start[0].astype("float32")).all()


@KINDS
def test_a_row_twice_in_a_batch_counts_once_with_the_sum(kind: type[Plain]) -> None:
    gradient = np.array([[1.0, 2.0], [3.0, -1.0]])
    twice, once = kind([np.zeros((ROWS, 2))]), kind([np.zeros((ROWS, 2))])
    twice.apply([slices([4, 4], gradient)])
    once.apply([slices([4], gradient.sum(0, keepdims=True))])
    np.testing.assert_allclose(twice.values()[0], once.values()[0], atol=1e-7)


@KINDS
@pytest.mark.parametrize("rows", [[1], [1] * 9])
def test_untouched_rows_stay_and_touched_rows_decay(kind: type[Plain], rows: list[int]) -> None:
    start = np.ones((ROWS, 2), "float32")
    training = kind([start], row_decay=0.5)
    training.apply([slices(rows, np.zeros((len(rows), 2)))])
    expected = start.copy()
    expected[1] -= 0.1 * 0.5
    np.testing.assert_allclose(training.values()[0], expected, atol=1e-7)
    # To the bit: rows that no batch holds must not drift.
    np.testing.assert_array_equal(training.values()[0][[0, 2, 3, 4, 5]], 1.0)


def test_a_variable_without_a_gradient_stays() -> None:
    training = Plain([np.ones(3), np.ones(2)])
    training.optimizer.apply([None, tf.ones([2])], training.variables)
    np.testing.assert_array_equal(training.values()[0], 1.0)
    assert (training.values()[1] < 1).all()


def test_a_dense_variable_is_one_operation() -> None:
    def operations(variables: int) -> int:
        training = Plain([np.ones(3)] * variables)
        gradients = [tf.TensorSpec([3])] * variables
        kinds = [op.type for op in training.apply.get_concrete_function(gradients).graph.get_operations()]
        assert kinds.count("ResourceApplyAdam") == variables
        return len([kind for kind in kinds if kind not in ("Placeholder", "Const", "Identity", "NoOp")])

    assert operations(12) - operations(2) == 10
