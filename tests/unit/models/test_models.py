"""Properties that every model holds, and each model's value against the paper's equations in numpy."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from model_oracles import build, mean, mlp_oracle, model_oracle, scores

from ctr.models.compiled import compiled
from ctr.models.contract import Ranker
from ctr.models.impression import (
    CANDIDATE_CATEGORY_ID,
    CANDIDATE_ITEM_ID,
    FEATURES,
    HISTORY_INPUTS,
    INDEX_OF,
    PADDING_ID,
    REQUEST_FEATURES,
    UNKNOWN_INDEX,
)
from ctr.models.layers.embedding import age_bucket
from ctr.models.model_config import ModelConfig
from ctr.models.registry import MODELS, build_model

Inputs = dict[str, tf.Tensor]
ACTIVATIONS = ["relu", "prelu", "mish", "dice"]
ROUNDING = 1e-5
"""Of float32 logits near 1: a matrix of another shape may be multiplied in another order, as the processor likes."""


@pytest.mark.parametrize("name", MODELS)
class TestEveryModel:
    def test_padding_changes_nothing(
        self, name: str, make_inputs: Callable[..., Inputs], pad_history: Callable[[Inputs, int], Inputs]
    ) -> None:
        inputs = make_inputs([0, 1, 4, 7], width=7)
        model = build(name)
        model(inputs, training=True)
        np.testing.assert_allclose(scores(model, pad_history(inputs, 5)), scores(model, inputs), atol=ROUNDING)

    def test_a_row_scores_alone_as_in_a_batch(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([0, 2, 5], width=5)
        model = build(name)
        model(inputs, training=True)
        alone = [scores(model, {k: v[row : row + 1] for k, v in inputs.items()}) for row in range(3)]
        np.testing.assert_allclose(np.concatenate(alone), scores(model, inputs), atol=1e-6)

    def test_a_candidate_scores_alone_as_among_others(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([3, 5], width=5, candidates=4)
        model = build(name)
        alone = [
            scores(model, {k: v[:, n : n + 1] if k.startswith("candidate") else v for k, v in inputs.items()})
            for n in range(4)
        ]
        np.testing.assert_allclose(np.concatenate(alone, axis=1), scores(model, inputs), atol=1e-6)

    def test_a_history_of_no_steps_at_all(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([0, 0], width=0)
        model = build(name)
        assert np.isfinite(scores(model, inputs)).all()
        np.testing.assert_allclose(
            scores(model, inputs),
            scores(
                model,
                {**make_inputs([0, 0], width=3), **{k: v for k, v in inputs.items() if k.startswith("candidate")}},
            ),
            atol=1e-6,
        )

    def test_the_ends_of_each_range_give_finite_scores(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([3, 5], width=5)
        model = build(name)
        for end in ("smallest", "largest"):
            extremes = {
                name: tf.where(inputs[name] != PADDING_ID, tf.constant(getattr(FEATURES[name], end), tf.int64), 0)
                for name in REQUEST_FEATURES
            }
            assert np.isfinite(scores(model, inputs | extremes)).all()

    @pytest.mark.parametrize("activation", ACTIVATIONS)
    def test_the_gradient_reaches_every_weight(
        self, name: str, activation: str, make_inputs: Callable[..., Inputs]
    ) -> None:
        inputs = make_inputs([3, 5, 6, 2] * 4, width=6)
        # Dice's slope starts at 0 and PReLU's at 0.25: both get a gradient wherever a pre-activation is negative.
        model = build(name, activation=activation, item_unknown_rate=0.0)
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            loss = tf.reduce_mean(tf.square(output.logits - 1.0))
            loss += tf.add_n([tf.reduce_mean(auxiliary) for auxiliary in output.auxiliary_losses.values()] or [0.0])
        for weight, gradient in zip(
            model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
        ):
            assert gradient is not None, weight.path
            assert np.abs(tf.convert_to_tensor(gradient).numpy()).max() > 0, weight.path

    def test_training_on_a_cpu_is_that_which_xla_compiles(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([0, 1, 4, 6, 3], width=7)
        for feature in (CANDIDATE_ITEM_ID, CANDIDATE_CATEGORY_ID, *INDEX_OF.values()):
            if feature.startswith("candidate"):
                # A candidate that is padding.
                inputs[feature] *= [[1, 1, 1]] * 4 + [[1, 1, 0]]
        found = []
        for within in (contextlib.nullcontext, compiled):
            model = build(name, dice={"epsilon": 0.01})
            for weight in model.trainable_variables:
                # Dice's slopes, too, which start at 0.
                weight.assign(weight + np.linspace(-0.2, 0.2, weight.shape[-1]))
            with within(), tf.GradientTape() as tape:
                output = model(inputs, training=True)
                loss = tf.reduce_sum(tf.where(inputs[CANDIDATE_ITEM_ID] > 0, tf.sin(output.logits), 0.0))
                loss += tf.add_n([tf.reduce_sum(each) for each in output.auxiliary_losses.values()] or [0.0])
            gradients = tape.gradient(loss, model.trainable_variables)
            found.append([loss, *gradients, *model.non_trainable_variables])
        paths = ["loss", *(v.path for v in (*model.trainable_variables, *model.non_trainable_variables))]
        for ours, theirs, path in zip(*found, paths, strict=True):
            ours, theirs = tf.convert_to_tensor(ours).numpy(), tf.convert_to_tensor(theirs).numpy()
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * max(1, np.abs(theirs).max()), err_msg=path)

    @pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
    def test_half_precision_stays_finite(self, name: str, policy: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([0, 1, 6, 6], width=6)
        keras.config.set_dtype_policy(policy)
        try:
            model = build(name)
        finally:
            keras.config.set_dtype_policy("float32")
        assert model.embedding(inputs).events.dtype == policy.removeprefix("mixed_")
        for weight in model.embedding.trainable_variables:
            # Embeddings of a size that products and sums of half precision have to bear.
            weight.assign(weight * 100.0)
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            losses = [output.logits, *output.auxiliary_losses.values()]
            total = tf.add_n([tf.reduce_sum(each) for each in losses])
        assert {each.dtype for each in losses} == {tf.float32}
        assert np.isfinite(total.numpy())
        for weight, gradient in zip(
            model.trainable_variables, tape.gradient(total, model.trainable_variables), strict=True
        ):
            assert np.isfinite(tf.convert_to_tensor(gradient).numpy()).all(), weight.path
        assert np.isfinite(scores(model, inputs)).all()

    @pytest.mark.parametrize(
        "settings",
        [
            {"behavior_embedding": False, "age_embedding": False, "separate_history_embedding": True},
            {"dropout": 0.3, "match_features": False, "transformer": {"layers": 2}},
        ],
        ids=str,
    )
    def test_settings_build_and_train(
        self, name: str, settings: dict[str, object], make_inputs: Callable[..., Inputs]
    ) -> None:
        inputs = make_inputs([0, 3, 6], width=6)
        model = build(name, **settings)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(inputs, training=True).logits)
        gradients = tape.gradient(loss, model.trainable_variables)
        assert np.isfinite(loss.numpy())
        assert sum(gradient is not None for gradient in gradients) > len(gradients) // 2

    def test_the_configuration_makes_the_same_model_again(self, name: str) -> None:
        model = build(name, embedding_dim=6, activation="prelu")
        config = ModelConfig.model_validate_json(model.config.model_dump_json())
        assert config == model.config
        again = build_model(config, 50, 12, history_length=6)
        assert [(w.name, w.shape) for w in again.variables] == [(w.name, w.shape) for w in model.variables]

    def test_unknown_items_are_drawn_in_training_only(self, name: str, make_inputs: Callable[..., Inputs]) -> None:
        inputs = make_inputs([4, 4], width=4)
        model = build(name, item_unknown_rate=0.9)
        np.testing.assert_array_equal(scores(model, inputs), scores(model, inputs))
        unknown = {
            k: tf.fill(tf.shape(v), tf.constant(UNKNOWN_INDEX, tf.int64)) if "item_index" in k else v
            for k, v in inputs.items()
        }
        assert np.abs(scores(model, inputs) - scores(model, unknown)).max() > 1e-4


# Tracing is what takes time, and what an activation does in a graph does not depend on the model: all pairs are in
# the test of the gradients. That the loss of every model falls is in the tests of a training that goes on.
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_loss_falls(activation: str, make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([3, 5, 6, 2] * 8, width=6)
    labels = tf.one_hot(tf.zeros(32, tf.int32), 3)
    model = build("dnn", activation=activation)
    optimizer = keras.optimizers.Adam(0.01)

    @tf.function(autograph=False)
    def step() -> tf.Tensor:
        with tf.GradientTape() as tape:
            output = model(inputs, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=output.logits))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    optimizer.build(model.trainable_variables)
    losses = [float(step()) for _ in range(40)]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"item_embedding": False},
        {"separate_history_embedding": True},
        {"separate_history_embedding": True, "item_embedding": False},
        {"behavior_embedding": False},
        {"age_embedding": False},
        {"behavior_embedding": False, "age_embedding": False},
        {"item_buckets": 7},
        {"item_buckets": 7, "separate_history_embedding": True},
    ],
    ids=str,
)
def test_dnn_against_numpy(settings: dict[str, int], make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    model = build("dnn", activation="relu", **settings)
    for table in (t for t in model.embedding.weights if "quotients" in t.name):
        table.assign(np.random.default_rng(0).normal(size=table.shape))

    def encode(events: np.ndarray, context: np.ndarray, _: np.ndarray) -> np.ndarray:
        return np.concatenate([mean(events), mean(context)])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=1e-5)


def din_interest(model: Ranker, events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
    """u = sum_t a_t e_t with a_t = MLP([e_t, v, e_t - v, e_t * v, c_t]), event by event."""
    unit = model.attention
    interest = np.zeros_like(v)
    for e, c in zip(events, context, strict=True):
        x = np.maximum(np.concatenate([e, v, e - v, e * v, c]) @ unit.kernel.numpy() + unit.bias.numpy(), 0)
        x = mlp_oracle(unit.rest, x)
        a = (x @ unit.output_weight.kernel.numpy() + unit.output_weight.bias.numpy())[0]
        interest = interest + a * e
    return interest


def test_din_against_numpy(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([0, 1, 4, 6], width=6)
    model = build("din", activation="relu")

    def encode(events: np.ndarray, context: np.ndarray, v: np.ndarray) -> np.ndarray:
        interest = din_interest(model, events, context, v)
        return np.concatenate([interest, interest * v, mean(context)])

    np.testing.assert_allclose(scores(model, inputs), model_oracle(model, inputs, encode), atol=1e-5)


def test_din_has_no_interest_without_history(make_inputs: Callable[..., Inputs]) -> None:
    model = build("din")
    embedded = model.embedding(make_inputs([0, 2], width=3))
    interest = model.attention(embedded).numpy()
    assert not interest[0].any()
    assert interest[1].any()


def test_din_does_not_depend_on_the_order_of_events(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([6, 6], width=6)
    order = [3, 0, 5, 1, 4, 2]
    permuted = {k: tf.gather(v, order, axis=1) if k in HISTORY_INPUTS else v for k, v in inputs.items()}
    # Position features see the order; without them nothing does, each event carrying its own age.
    model = build("din", match_features=False)
    np.testing.assert_allclose(scores(model, permuted), scores(model, inputs), atol=1e-6)


@pytest.mark.parametrize(("items", "buckets"), [(50, 7), (50, 24), (9, 3), (50, 47)])
def test_hashed_items_share_no_vector(items: int, buckets: int) -> None:
    embedding = build_model(ModelConfig(name="dnn", item_buckets=buckets), items, 10, history_length=4).embedding
    start = embedding.event_item_vectors(tf.range(items, dtype=tf.int64)).numpy()
    np.testing.assert_array_equal(start[2:], embedding.items.numpy()[2:][np.arange(items - 2) % buckets])
    rng = np.random.default_rng(0)
    for table in embedding.weights:
        table.assign(rng.normal(size=table.shape))
    vectors = embedding.event_item_vectors(tf.range(items, dtype=tf.int64)).numpy()
    assert len(np.unique(vectors, axis=0)) == items
    assert [t.shape[0] for t in (embedding.items, embedding.item_quotients)] == [
        buckets + 2,
        -(-(items - 2) // buckets) + 1,
    ]
    # Nothing that a known item learns changes padding or unknown.
    for table, own in ((embedding.items, 2), (embedding.item_quotients, 1)):
        table.assign(np.concatenate([table.numpy()[:own], np.zeros((table.shape[0] - own, 16))]))
    np.testing.assert_array_equal(embedding.event_item_vectors(tf.constant([0, 1])).numpy(), vectors[:2])


def test_as_many_buckets_as_items_are_a_row_for_each() -> None:
    config = ModelConfig(name="dnn", item_buckets=48)
    embedding = build_model(config, 50, 10, history_length=4).embedding
    assert (embedding.items.shape[0], embedding.item_quotients) == (50, None)


def test_ages_fall_into_powers_of_two() -> None:
    ages = np.array([0, 1, 2, 3, 4, 7, 8, 1023, 1024, 2**21 - 1, 2**21, 2**31], "int64")
    assert age_bucket(tf.constant(ages)).numpy().tolist() == [0, 0, 1, 1, 2, 2, 3, 9, 10, 20, 21, 21]


def test_the_same_items_are_forgotten_in_history_and_candidates() -> None:
    embedding = build("din", item_unknown_rate=0.5).embedding
    index = tf.range(0, 2000, dtype=tf.int64)
    first, again = (
        embedding._forget(index, tf.constant(7, tf.int64)),
        embedding._forget(index, tf.constant(7, tf.int64)),
    )
    np.testing.assert_array_equal(first.numpy(), again.numpy())
    other = embedding._forget(index, tf.constant(8, tf.int64)).numpy()
    share = (first.numpy()[2:] == UNKNOWN_INDEX).mean()
    assert 0.45 < share < 0.55
    assert (first.numpy() != other).mean() > 0.3
    assert first.numpy()[0] == 0
