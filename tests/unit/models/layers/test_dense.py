from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr.models.layers.dense import Dense, rows_matmul


@pytest.mark.parametrize("shape", [(5, 4), (2, 5, 4), (2, 1, 5, 4), (3, 2, 5, 4), (2, 0, 4), (0, 3, 4)])
def test_dense_gives_what_keras_gives(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    ours, theirs = Dense(3, activation="relu"), keras.layers.Dense(3, activation="relu")
    for layer in (ours, theirs):
        layer.build((None, 4))
    theirs.set_weights(ours.get_weights())
    assert ours(x).shape == (*shape[:-1], 3)
    # Keras' own product in double precision: its kernel for axes of 1 is what this layer is there to avoid.
    kernel, bias = (weight.astype("float64") for weight in theirs.get_weights())
    np.testing.assert_allclose(ours(x), np.maximum(x @ kernel + bias, 0), atol=1e-5)


def test_the_gradient_is_that_of_the_product() -> None:
    x = tf.random.stateless_normal([2, 3, 4], [1, 2])
    matrix = tf.Variable(tf.random.stateless_normal([4, 5], [3, 4]))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, theirs = (
            tf.reduce_sum(rows_matmul(x, matrix) ** 2),
            tf.reduce_sum(tf.einsum("btc,cu->btu", x, matrix) ** 2),
        )
    for source in (x, matrix):
        np.testing.assert_allclose(tape.gradient(ours, source), tape.gradient(theirs, source), rtol=1e-4)


def test_the_static_shape_survives_a_graph_of_unknown_batch() -> None:
    layer = Dense(3)
    layer.build((None, 4))

    @tf.function(input_signature=[tf.TensorSpec([None, None, 4])])
    def call(x: tf.Tensor) -> tf.Tensor:
        y = layer(x)
        assert y.shape.as_list() == [None, None, 3]
        return y

    assert call(tf.zeros([2, 7, 4])).shape == (2, 7, 3)
