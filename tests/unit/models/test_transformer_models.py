"""Transformer4Rec and BERT4Rec against full attention in numpy, one token after the other."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf
from model_oracles import Inputs, build, mean, model_oracle, scores, softmax

from ctr.models.contract import Ranker
from ctr.models.impression import (
    CANDIDATE_FEATURES,
    CANDIDATE_ITEM_ID,
    CANDIDATE_ITEM_INDEX,
    HISTORY_AGE,
    HISTORY_CATEGORY_ID,
    HISTORY_CATEGORY_INDEX,
    HISTORY_ITEM_ID,
    HISTORY_ITEM_INDEX,
    INDEX_OF,
    UNKNOWN_INDEX,
)
from ctr.models.layers.transformer import TransformerBlock

TRANSFORMER = {"layers": 1, "heads": 2, "width": 6, "feed_forward": 7}


def dense(layer: object, x: np.ndarray) -> np.ndarray:
    return x @ layer.kernel.numpy() + layer.bias.numpy()  # type: ignore[attr-defined]


def layer_norm(layer: object, x: np.ndarray) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return centred / scale * layer.gamma.numpy() + layer.beta.numpy()  # type: ignore[attr-defined]


def block_oracle(block: TransformerBlock, x: np.ndarray) -> np.ndarray:
    """One block over tokens x [T, W], all of them real."""
    query, key, value = (dense(layer, x) for layer in (block.query, block.key, block.value))
    size = block.width // block.heads
    heads = []
    for head in range(block.heads):
        part = slice(head * size, (head + 1) * size)
        weights = softmax(query[:, part] @ key[:, part].T / np.sqrt(size))
        heads.append(weights @ value[:, part])
    x = layer_norm(block.attention_norm, x + dense(block.output_weight, np.concatenate(heads, axis=1)))
    return layer_norm(block.norm, x + dense(block.outer, np.maximum(dense(block.inner, x), 0)))


def shaken(model: Ranker, inputs: Inputs) -> Ranker:
    """Weights away from their initial values, so that biases, gains and positions count."""
    model(inputs)
    rng = np.random.default_rng(1)
    for weight in model.trainable_variables:
        weight.assign_add(rng.normal(scale=0.1, size=weight.shape))
    return model


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("age_embedding", [True, False])
def test_transformer4rec_against_full_attention(
    layers: int, age_embedding: bool, make_inputs: Callable[..., Inputs]
) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    settings = {"transformer": {**TRANSFORMER, "layers": layers}, "age_embedding": age_embedding}
    model = shaken(build("transformer4rec", activation="relu", **settings), inputs)

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        history = dense(model.event_token, np.concatenate([events, context], axis=1))
        if not age_embedding:
            history = history + model.positions.numpy()[: len(history)][::-1]
        tokens = np.concatenate([history, dense(model.target_token, v)[None]])
        for block in model.blocks:
            tokens = block_oracle(block, tokens)
        return np.concatenate([tokens[-1], mean(context)])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=2e-5)


def test_transformer4rec_sees_which_event_was_when(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([6, 6], width=6)
    model = build("transformer4rec", match_features=False)
    times = {**inputs, HISTORY_AGE: tf.gather(inputs[HISTORY_AGE], [5, 1, 2, 3, 4, 0], axis=1)}
    assert np.abs(scores(model, times) - scores(model, inputs)).max() > 1e-5


@pytest.mark.parametrize("name", ["transformer4rec", "bert4rec"])
def test_without_ages_the_order_of_events_counts(name: str, make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([6, 6], width=6)
    model = shaken(build(name, match_features=False, age_embedding=False), inputs)
    history = (HISTORY_ITEM_ID, HISTORY_CATEGORY_ID, HISTORY_ITEM_INDEX, HISTORY_CATEGORY_INDEX)
    swapped = {k: tf.gather(v, [1, 0, 2, 3, 5, 4], axis=1) if k in history else v for k, v in inputs.items()}
    assert np.abs(scores(model, swapped) - scores(model, inputs)).max() > 1e-5


def test_bert4rec_against_full_attention(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    model = shaken(build("bert4rec", activation="relu", transformer={**TRANSFORMER, "layers": 2}), inputs)

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        history = dense(model.event_token, np.concatenate([events, context], axis=1))
        tokens = np.concatenate([history, model.mask_token.numpy()[None]])
        tokens = tokens + model.positions.numpy()[: len(tokens)][::-1]
        for block in model.blocks:
            tokens = block_oracle(block, tokens)
        return np.concatenate([tokens[-1], (tokens[-1] @ model.interaction.projection.kernel.numpy()) * v])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=2e-5)


def test_the_state_at_mask_does_not_depend_on_the_target(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([3, 6], width=6)
    other = {k: tf.reverse(v, [1]) if k.startswith("candidate") else v for k, v in inputs.items()}
    model = build("bert4rec")
    width = model.config.transformer.width
    states = [model.encode(model.embedding(each), training=False)[0][..., :width].numpy() for each in (inputs, other)]
    np.testing.assert_array_equal(states[0], states[1])
    assert set(CANDIDATE_FEATURES) | {CANDIDATE_ITEM_INDEX, INDEX_OF[CANDIDATE_ITEM_ID]} <= set(inputs)


class TestCloze:
    def test_what_is_masked_is_not_in_the_input(self, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([6], width=6)
        model = build("bert4rec")
        tokens = tf.random.stateless_normal([1, 6, model.config.transformer.width], [1, 2])
        real, position = tf.ones([1, 6], tf.bool), tf.range(6, 0, -1)[None]
        masked = tf.constant([[False, False, True, False, False, False]])
        changed = tf.where(masked[..., None], tokens + 5.0, tokens)
        states = [model.states(each, position, masked, real, False).numpy() for each in (tokens, changed)]
        np.testing.assert_array_equal(states[0], states[1])
        assert inputs[HISTORY_ITEM_ID].shape == (1, 6)

    def test_every_history_has_something_masked_and_padding_never_is(self) -> None:
        model = build("bert4rec", bert4rec={"mask_share": 0.3, "last_only_share": 0.25})
        lengths = np.tile([0, 1, 2, 6], 500)
        mask = np.arange(6)[None, :] < lengths[:, None]
        position = tf.constant(lengths[:, None] - np.arange(6)[None, :])
        masked = model.draw_masked(tf.constant(mask), position).numpy()
        assert not (masked & ~mask).any()
        assert masked[lengths > 0].any(axis=1).all()
        # Position 0 is masked as well as any other; of six events 30 %, but one at least and a quarter only the last.
        long = masked[lengths == 6]
        only_last = (long.sum(axis=1) == 1) & long[:, 5]
        assert only_last.mean() > 0.25
        assert long[:, 0].mean() == pytest.approx(0.75 * (0.3 + 0.7**6 / 6), abs=0.08)

    @pytest.mark.parametrize("buckets", [None, 7])
    def test_the_loss_against_numpy(self, buckets: int | None) -> None:
        model = build("bert4rec", bert4rec={"cloze_negatives": 1000}, item_buckets=buckets)
        rng = np.random.default_rng(0)
        model.item_bias.assign(rng.normal(size=50))
        states = rng.normal(size=(3, 4, model.config.transformer.width)).astype("float32")
        items = np.array([[5, 7, UNKNOWN_INDEX, 9], [11, 12, 13, 14], [5, 5, 0, 0]])
        masked = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)
        losses = [model.cloze_loss(tf.constant(states), masked, tf.constant(items)).numpy() for _ in range(60)]

        table = model.embedding.event_item_vectors(tf.range(50, dtype=tf.int64)).numpy()
        bias = model.item_bias.numpy()

        def full(state: np.ndarray, item: int) -> float:
            """Cross-entropy of the softmax over all 48 items."""
            x = dense(model.cloze_output, state)
            gelu = 0.5 * x * (1 + np.array([math.erf(value / np.sqrt(2)) for value in x]))
            logits = (table @ gelu + bias)[2:]
            return float(np.log(np.exp(logits).sum()) - logits[item - 2])

        expected = [(full(states[0, 0], 5) + full(states[0, 3], 9)) / 2, 0.0, full(states[2, 1], 5)]
        # 48 draws with replacement from 48 items stand for the 47 others, by chance more or less well.
        np.testing.assert_allclose(np.mean(losses, axis=0), expected, atol=0.1)
        assert all(loss[1] == 0 for loss in losses)

    def test_the_true_item_among_the_drawn_does_not_count_twice(self) -> None:
        model = build("bert4rec", bert4rec={"cloze_negatives": 1000})
        states = tf.zeros([1, 1, model.config.transformer.width])
        bias = np.full(50, -100.0, "float32")
        bias[7] = 100.0
        model.item_bias.assign(bias)
        for _ in range(20):
            # Only item 7 has any weight: seen once it has all the mass, and the loss is 0.
            assert model.cloze_loss(states, tf.constant([[True]]), tf.constant([[7]], tf.int64)).numpy()[0] < 1e-6

    def test_it_is_for_training_and_by_weight(self, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([4, 0, 6], width=6)
        model = build("bert4rec", item_unknown_rate=0.0)
        assert not model(inputs, training=False).auxiliary_losses
        assert not build("bert4rec", bert4rec={"cloze_weight": 0.0})(inputs, training=True).auxiliary_losses
        (loss,) = model(inputs, training=True).auxiliary_losses.values()
        # Nothing learnt: near the logarithm of the number of items to choose from, weighted by 0.1.
        np.testing.assert_allclose(loss, [0.1 * np.log(49), 0, 0.1 * np.log(49)], rtol=0.1)
