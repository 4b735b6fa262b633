from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from ctr.models.layers.numeric import masked_softmax


@given(
    st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8),
    st.integers(0, 255),
)
def test_it_is_the_softmax_of_what_the_mask_leaves(values: list[float], bits: int) -> None:
    mask = np.array([bool(bits >> place & 1) for place in range(len(values))])
    result = masked_softmax(tf.constant([values]), tf.constant([mask])).numpy()[0]
    kept = np.array(values)[mask]
    expected = np.zeros(len(values))
    if mask.any():
        expected[mask] = np.exp(kept - kept.max()) / np.exp(kept - kept.max()).sum()
    np.testing.assert_allclose(result, expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32])
def test_nothing_real_gives_zeros_and_a_finite_gradient(dtype: tf.DType) -> None:
    scores = tf.constant([[3e4, -3e4], [1.0, 2.0]], dtype)
    for mask in ([[False, False], [True, False]], [[True, True], [False, False]]):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            weights = masked_softmax(scores, tf.constant(mask))
        assert weights.dtype == dtype
        assert np.isfinite(tf.cast(tape.gradient(weights, scores), tf.float32).numpy()).all()
        np.testing.assert_allclose(
            tf.reduce_sum(tf.cast(weights, tf.float32), 1), [float(any(row)) for row in mask], atol=1e-2
        )


def test_no_steps_at_all() -> None:
    assert masked_softmax(tf.zeros([2, 3, 0]), tf.zeros([2, 1, 0], tf.bool)).shape == (2, 3, 0)
