"""RNN, LSTM, GRU4Rec and DIEN against the papers' equations, step by step in numpy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from model_oracles import Inputs, build, mean, model_oracle, scores, softmax

from ctr.models.dien import next_event_loss
from ctr.models.impression import HISTORY_INPUTS, HISTORY_ITEM_ID
from ctr.models.layers.recurrent import AttentionalGRU

ORDER_AWARE = ["rnn", "lstm", "gru4rec", "dien"]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def rnn_states(layer: object, x: np.ndarray) -> np.ndarray:
    kernel, recurrent, bias = (w.numpy() for w in layer.cell.trainable_variables)  # type: ignore[attr-defined]
    h, states = np.zeros(len(recurrent)), []
    for step in x:
        h = np.tanh(step @ kernel + h @ recurrent + bias)
        states.append(h)
    return np.array(states)


def lstm_states(layer: object, x: np.ndarray) -> np.ndarray:
    """Gates in Keras' order: input, forget, cell, output."""
    kernel, recurrent, bias = (w.numpy() for w in layer.cell.trainable_variables)  # type: ignore[attr-defined]
    h, c, states = np.zeros(len(recurrent)), np.zeros(len(recurrent)), []
    for step in x:
        i, f, g, o = np.split(step @ kernel + h @ recurrent + bias, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        states.append(h)
    return np.array(states)


def gru_states(layer: object, x: np.ndarray) -> np.ndarray:
    """Gates in Keras' order: keep (1 - update), reset, candidate; the reset gate after the matrix."""
    kernel, recurrent, bias = (w.numpy() for w in layer.cell.trainable_variables)  # type: ignore[attr-defined]
    h, states = np.zeros(len(recurrent)), []
    for step in x:
        xz, xr, xc = np.split(step @ kernel + bias[0], 3)
        hz, hr, hc = np.split(h @ recurrent + bias[1], 3)
        keep, candidate = sigmoid(xz + hz), np.tanh(xc + sigmoid(xr + hr) * hc)
        h = keep * h + (1 - keep) * candidate
        states.append(h)
    return np.array(states)


def last(states: np.ndarray, width: int) -> np.ndarray:
    return states[-1] if len(states) else np.zeros(width)


@pytest.mark.parametrize(("name", "states_of"), [("rnn", rnn_states), ("lstm", lstm_states), ("gru4rec", gru_states)])
def test_recurrent_models_against_numpy(
    name: str, states_of: Callable[[object, np.ndarray], np.ndarray], make_inputs: Callable[..., Inputs]
) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    model = build(name, activation="relu", recurrent={"units": 5})

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        state = last(states_of(model.recurrence, np.concatenate([events, context], axis=1)), 5)
        return np.concatenate([state, (state @ model.interaction.projection.kernel.numpy()) * v])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=1e-5)


def augru(layer: AttentionalGRU, x: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Equations 3 to 5, 10 and 11 of DIEN for one candidate: x [T, C], attention [T] -> h_T."""
    kernel, recurrent, bias = (w.numpy() for w in (layer.kernel, layer.recurrent_kernel, layer.bias))
    wu, wr, wc = np.split(kernel, 3, axis=1)
    uu, ur, uc = np.split(recurrent, 3, axis=1)
    bu, br, bc = np.split(bias, 3)
    h = np.zeros(layer.units)
    for step, a in zip(x, attention, strict=True):
        u = sigmoid(step @ wu + h @ uu + bu)
        r = sigmoid(step @ wr + h @ ur + br)
        c = np.tanh(step @ wc + r * (h @ uc) + bc)
        h = (1 - a * u) * h + a * u * c
    return h


def test_dien_against_numpy(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    model = build("dien", activation="relu", recurrent={"units": 5})

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        states = gru_states(model.extractor, np.concatenate([events, context], axis=1)).reshape(-1, len(v))
        attention = softmax(states @ model.attention.kernel.numpy() @ v)
        evolved = augru(model.evolution, states, attention)
        return np.concatenate([evolved, (evolved @ model.projection.kernel.numpy()) * v, mean(context)])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=1e-5)


@pytest.fixture
def evolution() -> AttentionalGRU:
    layer = AttentionalGRU(5)
    layer.build(4)
    layer.bias.assign(np.linspace(-0.5, 0.5, 15))
    return layer


def test_an_attention_of_0_freezes_the_state(evolution: AttentionalGRU) -> None:
    x = tf.random.stateless_normal([2, 6, 4], [1, 2])
    all_real = tf.ones([2, 6], tf.bool)
    np.testing.assert_array_equal(evolution(x, tf.zeros([2, 3, 6]), all_real).numpy(), np.zeros([2, 3, 5]))
    attention = np.random.default_rng(0).random((2, 3, 6)).astype("float32")
    attention[..., 4:] = 0
    shorter = evolution(x[:, :4], attention[..., :4], all_real[:, :4])
    np.testing.assert_allclose(evolution(x, attention, all_real), shorter, atol=1e-6)


def test_an_attention_of_1_is_a_plain_gru(evolution: AttentionalGRU) -> None:
    import keras

    x = tf.random.stateless_normal([2, 6, 4], [1, 2])
    plain = keras.layers.GRU(5, reset_after=True)
    plain.build((None, None, 4))
    # Keras' first gate keeps: 1 - sigmoid(s) = sigmoid(-s).
    sign = np.repeat([-1.0, 1.0, 1.0], 5).astype("float32")
    kernel, recurrent, bias = (w.numpy() * sign for w in evolution.trainable_variables)
    plain.set_weights([kernel, recurrent, np.stack([bias, np.zeros_like(bias)])])
    of_gru = evolution(x, tf.ones([2, 1, 6]), tf.ones([2, 6], tf.bool))
    np.testing.assert_allclose(of_gru[:, 0], plain(x), atol=1e-6)


@pytest.mark.parametrize("name", ORDER_AWARE)
def test_the_order_of_events_counts(name: str, make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([6, 6], width=6)
    swapped = {k: tf.gather(v, [1, 0, 2, 3, 5, 4], axis=1) if k in HISTORY_INPUTS else v for k, v in inputs.items()}
    model = build(name, match_features=False)
    assert np.abs(scores(model, swapped) - scores(model, inputs)).max() > 1e-5


def auxiliary_oracle(
    states: np.ndarray, events: np.ndarray, lengths: list[int], ids: np.ndarray, shift: int
) -> np.ndarray:
    """Equation 6, each event's negative being ``shift`` places further along the batch's real events."""
    places = [(row, t) for row, length in enumerate(lengths) for t in range(length)]
    result = []
    for row, length in enumerate(lengths):
        terms = []
        for t in range(length - 1):
            other = places[(places.index((row, t + 1)) + shift) % len(places)]
            if ids[other] in ids[row, :length]:
                continue
            positive, negative = states[row, t] @ events[row, t + 1], states[row, t] @ events[other]
            terms.append(-np.log(sigmoid(positive)) - np.log(1 - sigmoid(negative)))
        result.append(np.mean(terms) if terms else 0.0)
    return np.array(result)


def test_the_auxiliary_loss_against_numpy(make_inputs: Callable[..., Inputs]) -> None:
    rng, lengths = np.random.default_rng(3), [0, 1, 3, 5]
    mask = np.arange(5)[None, :] < np.array(lengths)[:, None]
    states, events = rng.normal(size=(2, 4, 5, 3)).astype("float32")
    ids = rng.integers(1, 12, (4, 5)) * mask
    possible = [
        auxiliary_oracle(states.astype(float), events.astype(float), lengths, ids, shift) for shift in range(1, 9)
    ]
    seen = set()
    for draw in range(40):
        loss = next_event_loss(states, events * mask[..., None], mask, tf.constant(ids), tf.constant([1, draw])).numpy()
        agree = [number for number, each in enumerate(possible) if np.allclose(each, loss, atol=1e-5)]
        assert agree
        seen.add(agree[0])
    assert len(seen) > 3


def test_the_auxiliary_loss_does_not_depend_on_padding() -> None:
    rng = np.random.default_rng(3)
    mask = np.arange(5)[None, :] < np.array([2, 5])[:, None]
    states, events = rng.normal(size=(2, 2, 5, 3)).astype("float32")
    ids = np.array([[1, 2, 0, 0, 0], [3, 4, 5, 6, 7]])
    padding = [[0, 0], [0, 3]]
    wide = (np.pad(states, [*padding, [0, 0]], constant_values=9), np.pad(events, [*padding, [0, 0]]))
    noise = np.where(mask[..., None], states, 77.0).astype("float32")
    losses = []
    for s, e, m, i in [
        (states, events, mask, ids),
        (noise, events, mask, ids),
        (*wide, np.pad(mask, padding), np.pad(ids, padding)),
    ]:
        losses.append(next_event_loss(s, e, m, tf.constant(i), tf.constant([5, 1])).numpy())
    np.testing.assert_allclose(losses[1], losses[0], atol=1e-6)
    np.testing.assert_allclose(losses[2], losses[0], atol=1e-6)
    assert losses[0].all()


def test_an_item_of_the_users_own_is_no_negative(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([4], width=4)
    (loss,) = build("dien")(inputs, training=True).auxiliary_losses.values()
    # Alone in its batch a user's events are the only ones to draw from.
    np.testing.assert_array_equal(loss, [0.0])


def test_the_auxiliary_loss_is_for_training_and_by_weight(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([4, 4, 4], width=4)
    assert inputs[HISTORY_ITEM_ID].shape[0] == 3
    model = build("dien")
    assert not model(inputs, training=False).auxiliary_losses
    assert not build("dien", dien={"auxiliary_weight": 0.0})(inputs, training=True).auxiliary_losses
    (loss,) = model(inputs, training=True).auxiliary_losses.values()
    # Small random embeddings: both terms start near ln 2, the weight is 1/2.
    np.testing.assert_allclose(loss, 0.5 * 2 * np.log(2), rtol=0.1)
