"""Declared features in every model: codes become vectors, and no model knows which there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import keras
import numpy as np
import pytest
import tensorflow as tf
from declared_impressions import declared
from model_oracles import build, scores

from ctr.models import impression as names
from ctr.models.registry import MODELS

Inputs = dict[str, tf.Tensor]


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    with declared():
        yield


@pytest.mark.parametrize("name", MODELS)
def test_every_model_looks_at_them_and_at_no_padding(
    name: str, make_inputs: Callable[..., Inputs], pad_history: Callable[[Inputs, int], Inputs]
) -> None:
    inputs = make_inputs([2, 4, 7], width=7)
    model = build(name)
    model(inputs, training=True)
    for weight in model.trainable_variables:
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.3))
    expected = scores(model, inputs)
    np.testing.assert_allclose(scores(model, pad_history(inputs, 5)), expected, atol=1e-4)
    for feature in (each for each in names.FEATURES.values() if each.encoding):
        assert feature.encoding is not None
        other = (inputs[feature.index] + 1) % (feature.encoding.largest + 1)
        if feature.group == "history":
            other *= tf.cast(inputs[names.HISTORY_ITEM_ID] != names.PADDING_ID, tf.int64)
        assert np.abs(scores(model, inputs | {feature.index: other}) - expected).max() > 1e-5, feature.name


def test_vectors_are_those_of_the_codes_and_means_of_several(make_inputs: Callable[..., Inputs]) -> None:
    inputs = make_inputs([3], width=4)
    value = {name: tensor.numpy() for name, tensor in inputs.items()}
    embedding = build("dnn").embedding
    table = {name: tensor.numpy() for name, tensor in embedding.context_tables.items()}
    price, brand, tags, *_counts = embedding.candidate_context(inputs)
    np.testing.assert_allclose(price, table["feature_price"][value["candidate_price_code"]])
    assert price.shape[-1] == 3
    np.testing.assert_allclose(brand, table["feature_brand"][value["candidate_brand_code"]])
    codes = np.stack([value[f"candidate_tags_{k}_code"] for k in (1, 2, 3)], axis=-1)
    mean = (table["feature_tags"][codes] * (codes > 0)[..., None]).sum(-2) / np.maximum((codes > 0).sum(-1), 1)[
        ..., None
    ]
    np.testing.assert_allclose(tags, mean, atol=1e-6)
    nothing = {f"candidate_tags_{k}_code": tf.zeros([1, 3], tf.int64) for k in (1, 2, 3)}
    np.testing.assert_array_equal(embedding.candidate_context(inputs | nothing)[2], np.zeros_like(tags))
    of_one = [vector.numpy() for vector in embedding.own_context(inputs)]
    bands = value["age_band_code"][:, 0]
    np.testing.assert_allclose(of_one[0], table["feature_age_band"][bands])
    assert [vector.shape[0] for vector in of_one] == [1, 1, 1]


def test_history_and_candidates_share_a_table_unless_they_have_their_own() -> None:
    shared, apart = (build("din", separate_history_embedding=own).embedding for own in (False, True))
    assert {*apart.context_tables} - {*shared.context_tables} == {
        f"event_feature_{name}" for name in ("price", "tags", "strength", "verb")
    }


def test_a_feature_that_decides_is_worth_what_its_absence_costs(make_inputs: Callable[..., Inputs]) -> None:
    learnt, judged = (make_inputs([3] * 64, width=4, candidates=4, seed=seed) for seed in (0, 1))

    def labels(inputs: Inputs) -> np.ndarray:
        return inputs["candidate_brand_code"].numpy() >= 4

    def accuracy(hidden: bool) -> float:
        def shown(inputs: Inputs) -> Inputs:
            nothing = {"candidate_brand_code": tf.zeros_like(inputs["candidate_brand_code"])}
            return inputs | (nothing if hidden else {})

        model = build("dnn", item_embedding=False, match_features=False)
        optimizer, target = keras.optimizers.Adam(0.03), tf.constant(labels(learnt), tf.float32)
        for _ in range(40):
            with tf.GradientTape() as tape:
                logits = model(shown(learnt), training=True).logits
                loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(target, logits))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return float(((scores(model, shown(judged)) > 0) == labels(judged)).mean())

    assert accuracy(hidden=False) > 0.9
    assert accuracy(hidden=True) < 0.7
