from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.loss_scale import FIRST_SCALE, STEPS_TO_DOUBLE, DynamicLossScale


def gradients(value: float, scale: float) -> list[tf.Tensor | tf.IndexedSlices | None]:
    rows = tf.IndexedSlices(tf.fill([2, 3], value * scale), tf.constant([4, 1]), tf.constant([6, 3]))
    return [tf.fill([2], value * scale), None, rows]


def test_finite_gradients_are_those_of_the_unscaled_loss_and_stay_sparse() -> None:
    scale = DynamicLossScale()
    np.testing.assert_allclose(scale.scaled(tf.constant(0.5)), 0.5 * FIRST_SCALE)
    dense, missing, rows = scale.unscale(gradients(0.25, FIRST_SCALE))
    np.testing.assert_allclose(dense, [0.25, 0.25])
    assert missing is None
    assert isinstance(rows, tf.IndexedSlices)
    np.testing.assert_allclose(rows.values, np.full([2, 3], 0.25))
    np.testing.assert_array_equal(rows.indices, [4, 1])


def test_an_overflow_anywhere_zeroes_the_step_and_halves_the_scale() -> None:
    for wrong in (np.inf, np.nan):
        scale = DynamicLossScale()
        broken = gradients(1.0, 1.0)
        broken[2] = tf.IndexedSlices(tf.constant([[1.0, wrong, 1.0]] * 2), tf.constant([4, 1]), tf.constant([6, 3]))
        dense, _, rows = scale.unscale(broken)
        assert not dense.numpy().any()
        assert not rows.values.numpy().any()
        assert scale.scale.numpy() == FIRST_SCALE / 2


def test_the_scale_doubles_after_enough_finite_steps_and_an_overflow_starts_the_count_anew() -> None:
    scale = DynamicLossScale()
    scale.finite_steps.assign(STEPS_TO_DOUBLE - 1)
    scale.unscale([tf.constant([np.inf])])
    for _ in range(3):
        scale.unscale([tf.constant([1.0])])
    assert scale.scale.numpy() == FIRST_SCALE / 2
    scale.finite_steps.assign(STEPS_TO_DOUBLE - 1)
    scale.unscale([tf.constant([1.0])])
    assert scale.scale.numpy() == FIRST_SCALE
    assert scale.finite_steps.numpy() == 0
