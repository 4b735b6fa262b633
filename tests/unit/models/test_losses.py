from __future__ import annotations

import numpy as np
import tensorflow as tf

from models.losses import pointwise_cross_entropy


def test_value_and_padding() -> None:
    logits = np.array([[0.3, -2.0, 7.0], [1.5, 0.0, np.inf]], "float32")
    labels = np.array([[1, 0, 0], [0, 1, 0]], "float32")
    real = np.array([[True, True, True], [True, True, False]])
    p = 1 / (1 + np.exp(-logits.astype("float64")))
    with np.errstate(divide="ignore", invalid="ignore"):
        each = -(labels * np.log(p) + (1 - labels) * np.log(1 - p))
    loss, pairs = pointwise_cross_entropy(tf.constant(logits), tf.constant(labels), tf.constant(real))
    assert float(pairs) == 5
    np.testing.assert_allclose(float(loss), each[real].sum(), rtol=1e-5)
