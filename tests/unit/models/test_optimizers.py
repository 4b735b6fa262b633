from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from ctr.models.optimizers import LazyAdam


def slices(rows: list[int], values: np.ndarray) -> tf.IndexedSlices:
    return tf.IndexedSlices(tf.constant(values, tf.float32), tf.constant(rows, tf.int64), tf.constant([6, 2], tf.int64))


def test_rows_that_are_always_touched_follow_adam() -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(6, 2)).astype("float32")
    lazy, dense = keras.Variable(start), keras.Variable(start)
    lazy_adam, adam = LazyAdam(0.1), keras.optimizers.Adam(0.1)
    for _ in range(5):
        gradient = rng.normal(size=(6, 2)).astype("float32")
        lazy_adam.apply_gradients([(slices(list(range(6)), gradient), lazy)])
        adam.apply_gradients([(tf.constant(gradient), dense)])
    np.testing.assert_allclose(lazy.numpy(), dense.numpy(), atol=1e-6)


def test_a_row_twice_in_a_batch_counts_once_with_the_sum() -> None:
    gradient = np.array([[1.0, 2.0], [3.0, -1.0]])
    twice, once = keras.Variable(np.zeros((6, 2), "float32")), keras.Variable(np.zeros((6, 2), "float32"))
    LazyAdam(0.1).apply_gradients([(slices([4, 4], gradient), twice)])
    LazyAdam(0.1).apply_gradients([(slices([4], gradient.sum(0, keepdims=True)), once)])
    np.testing.assert_allclose(twice.numpy(), once.numpy(), atol=1e-7)


def test_untouched_rows_stay_and_touched_rows_decay() -> None:
    start = np.ones((6, 2), "float32")
    variable = keras.Variable(start)
    optimizer = LazyAdam(0.1, row_decay=0.5)
    optimizer.apply_gradients([(slices([1], np.zeros((1, 2))), variable)])
    expected = start.copy()
    expected[1] -= 0.1 * 0.5
    np.testing.assert_allclose(variable.numpy(), expected, atol=1e-7)
