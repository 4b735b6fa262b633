"""Caser against windows cut out one by one in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from model_oracles import Inputs, build, mlp_oracle, model_oracle, scores

from ctr.models.impression import HISTORY_INPUTS
from ctr.models.layers.convolution import latest

SETTINGS = {"events": 4, "horizontal_filters": 3, "vertical_filters": 2, "units": 5}


def test_caser_against_numpy(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([0, 1, 3, 4, 6], width=6)
    model = build("caser", activation="relu", caser=SETTINGS)
    rng = np.random.default_rng(0)
    for convolution in model.horizontal.convolutions:
        convolution.bias.assign(rng.normal(size=3))

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        rows = np.concatenate([events, context], axis=1)
        real = min(len(rows), 4)
        e = np.concatenate([np.zeros((4 - real, rows.shape[1])), rows[len(rows) - real :]])
        features = []
        for height, convolution in enumerate(model.horizontal.convolutions, start=1):
            kernel, bias = convolution.kernel.numpy(), convolution.bias.numpy()
            windows = [
                np.maximum(np.einsum("hc,hcf->f", e[end - height : end], kernel) + bias, 0)
                for end in range(height, 5)
                if end > 4 - real
            ]
            features.append(np.max(windows, axis=0) if windows else np.zeros(3))
        features.append((model.vertical.kernel.numpy().T @ e).ravel())
        state = mlp_oracle(model.dense, np.concatenate(features))
        return np.concatenate([state, (state @ model.interaction.projection.kernel.numpy()) * v])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=1e-5)


def test_the_order_of_the_latest_events_counts_and_what_was_before_them_does_not(
    make_inputs: Callable[..., Inputs],
) -> None:
    inputs = make_inputs([6, 6], width=6)
    model = build("caser", match_features=False, caser=SETTINGS)

    def reordered(order: list[int]) -> np.ndarray:
        return scores(model, {k: tf.gather(v, order, axis=1) if k in HISTORY_INPUTS else v for k, v in inputs.items()})

    np.testing.assert_allclose(reordered([1, 0, 2, 3, 4, 5]), scores(model, inputs), atol=1e-6)
    assert np.abs(reordered([0, 1, 2, 3, 5, 4]) - scores(model, inputs)).max() > 1e-5


def test_the_latest_steps_stand_at_the_end() -> None:
    x = tf.constant([[[1.0], [2], [3], [9]], [[4], [9], [9], [9]], [[9], [9], [9], [9]]])
    mask = tf.constant([[True, True, True, False], [True, False, False, False], [False] * 4])
    rows, real = latest(x, mask, 2)
    assert rows[..., 0].numpy().tolist() == [[2, 3], [0, 4], [0, 0]]
    assert real.numpy().tolist() == [[True, True], [False, True], [False, False]]
    wider, _ = latest(x, mask, 5)
    assert wider[0, :, 0].numpy().tolist() == [0, 0, 1, 2, 3]
