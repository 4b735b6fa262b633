from __future__ import annotations

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

from ctr.models.compiled import compiled
from ctr.models.layers.activations import make_activation as layer_of
from ctr.models.model_config import ModelConfig

NAMES = ["relu", "prelu", "dice", "mish"]


def make_activation(name: str, **settings: object) -> keras.layers.Layer:
    return layer_of(ModelConfig.model_validate({"activation": name, **settings}))


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def test_values_against_numpy() -> None:
    s = np.linspace(-4, 4, 41, dtype="float32")[:, None]
    softplus = np.log1p(np.exp(s))
    expected = {
        "relu": np.maximum(s, 0),
        "prelu": np.maximum(s, 0) + 0.25 * np.minimum(s, 0),
        "mish": s * np.tanh(softplus),
        # Never trained: E = 0, Var = 1, a = 0.
        "dice": sigmoid(s) * s,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(make_activation(name)(s).numpy(), value, atol=1e-6, err_msg=name)


def test_mish_has_its_minimum_where_the_paper_says() -> None:
    s = np.linspace(-3, 0, 3001, dtype="float32")
    y = make_activation("mish")(s).numpy()
    assert y.min() == pytest.approx(-0.3088, abs=1e-4)
    assert s[y.argmin()] == pytest.approx(-1.19, abs=0.01)
    assert y[-1] == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("name", NAMES)
def test_finite_in_half_precision(name: str, dtype: str) -> None:
    activation = make_activation(name)
    activation.dtype_policy = keras.DTypePolicy(f"mixed_{dtype}")
    y = activation(tf.constant([[-50.0], [0.0], [50.0]], dtype), training=False)
    assert y.dtype == dtype
    assert np.isfinite(tf.cast(y, tf.float32).numpy()).all()


def test_prelu_learns_one_slope_a_channel_whatever_the_other_axes() -> None:
    activation = make_activation("prelu")
    activation(tf.zeros([2, 3, 5, 7]))
    assert [tuple(w.shape) for w in activation.trainable_weights] == [(7,)]


def test_dice_in_training_uses_the_statistics_of_the_batch() -> None:
    x = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    dice = make_activation("dice")
    dice.build(x.shape)
    dice.slope.assign([0.1, 0.2, 0.3, 0.4])
    p = sigmoid((x - x.mean(0)) / np.sqrt(x.var(0) + dice.epsilon))
    expected = p * x + (1 - p) * dice.slope.numpy() * x
    np.testing.assert_allclose(dice(x, training=True).numpy(), expected, atol=1e-5)
    # The first step already gives the moving averages, since they are debiased.
    np.testing.assert_allclose(dice(x, training=False).numpy(), expected, atol=1e-4)
    shifted = x + 5
    assert np.abs(dice(shifted, training=True).numpy() - dice(shifted, training=False).numpy()).max() > 0.1


def test_dice_at_inference_scores_a_row_alone_as_in_a_batch() -> None:
    x = np.random.default_rng(1).normal(size=(16, 3)).astype("float32")
    dice = make_activation("dice")
    dice(x, training=True)
    together = dice(x, training=False).numpy()
    alone = np.concatenate([dice(row[None], training=False).numpy() for row in x])
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_dice_has_the_settings_of_its_section() -> None:
    dice = make_activation("dice", dice={"momentum": 0.5, "epsilon": 0.1})
    assert (dice.momentum, dice.epsilon) == (0.5, 0.1)


def test_dice_does_not_count_invalid_positions() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(4, 6, 3)).astype("float32")
    valid = rng.random((4, 6)) < 0.5
    changed = np.where(valid[..., None], x, 1000.0).astype("float32")
    first, second = make_activation("dice"), make_activation("dice")
    a, b = first(x, training=True, valid=valid).numpy(), second(changed, training=True, valid=valid).numpy()
    np.testing.assert_allclose(a[valid], b[valid], atol=1e-6)
    for u, v in zip(first.weights, second.weights, strict=True):
        np.testing.assert_allclose(u.numpy(), v.numpy(), atol=1e-6)
    np.testing.assert_allclose(first.moving_mean.numpy() / first.moving_weight.numpy(), x[valid].mean(0), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_reach_input_and_weights(name: str) -> None:
    activation = make_activation(name)
    x = tf.constant(np.random.default_rng(3).normal(size=(8, 5)).astype("float32"))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(tf.square(activation(x, training=True)))
    gradients = tape.gradient(loss, [x, *activation.trainable_weights])
    assert all(np.abs(g.numpy()).max() > 0 for g in gradients)


@pytest.mark.parametrize("rows", [(64,), (0,), (8, 6)])
def test_dice_on_a_cpu_has_the_values_and_gradients_of_the_plain_formula(rows: tuple[int, ...]) -> None:
    rng = np.random.default_rng(4)
    # The last channel does not vary: its variance may come out below 0.
    x = np.concatenate([rng.normal(3, 2, (*rows, 4)), np.full((*rows, 1), 7.3)], axis=-1).astype("float32")
    valid = rng.random(rows) < 0.7 if len(rows) > 1 else None
    towards = tf.constant(rng.normal(size=x.shape).astype("float32"))

    def of(plain: bool) -> tuple[keras.layers.Layer, list[np.ndarray]]:
        dice = make_activation("dice", dice={"epsilon": 0.1})
        dice.build(x.shape)
        dice.slope.assign([-0.3, 0.1, 0.2, 1.4, 0.5])
        inputs = tf.constant(x)
        with compiled() if plain else contextlib.nullcontext(), tf.GradientTape() as tape:
            tape.watch(inputs)
            y = dice(inputs, training=True, valid=valid)
        return dice, [y.numpy(), *(g.numpy() for g in tape.gradient(y, [inputs, dice.slope.value], towards))]

    (fast, ours), (plain, theirs) = of(plain=False), of(plain=True)
    for our, their, what in zip(ours, theirs, ("y", "x", "slope"), strict=True):
        np.testing.assert_allclose(our, their, rtol=1e-4, atol=1e-5, err_msg=what)
    for our, their in zip(fast.weights, plain.weights, strict=True):
        np.testing.assert_allclose(our.numpy(), their.numpy(), rtol=1e-5, err_msg=our.path)
